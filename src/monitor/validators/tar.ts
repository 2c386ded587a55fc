/** Check of structure: tar, header by header, each with its checksum, to the end of the last member. */
import type { Validator } from "../validator.js";
import { invalid } from "./invalid.js";

const BLOCK_BYTES = 512;
const CHECKSUM_AT = 148;
const CHECKSUM_BYTES = 8;

export const tarValidator: Validator = {
  name: "tar",
  check: (content) => {
    let place = 0;
    for (; place + BLOCK_BYTES <= content.length;) {
      const header = content.subarray(place, place + BLOCK_BYTES);
      if (header[0] === 0 && header.every((byte) => byte === 0))
        return place === 0 ? invalid("it has no member") : undefined;
      if (!hasRightSum(header)) return invalid(`the tar header at byte ${String(place)} is broken`);
      const sizeBytes = numberAt(header, 124, 12);
      if (sizeBytes === undefined) return invalid(`the tar header at byte ${String(place)} has no size`);
      place += BLOCK_BYTES + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
    }
    return place === content.length && place > 0 ? undefined : invalid("the tar ends within a member");
  },
};

function hasRightSum(header: Buffer): boolean {
  let sum = 0;
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    const isSum = index >= CHECKSUM_AT && index < CHECKSUM_AT + CHECKSUM_BYTES;
    sum += isSum ? 32 : (header[index] ?? 0);
  }
  return numberAt(header, CHECKSUM_AT, CHECKSUM_BYTES) === sum;
}

/** Octal digits, or (first bit set) bytes of a large number. */
function numberAt(header: Buffer, at: number, lengthBytes: number): number | undefined {
  if (((header[at] ?? 0) & 0x80) !== 0) {
    const value = Number(header.readBigUInt64BE(at + lengthBytes - 8));
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const digits = header.toString("latin1", at, at + lengthBytes).replace(/[\0 ].*$/s, "") || "0";
  const text = digits === "0" ? header.toString("latin1", at, at + lengthBytes).replace(/[\0 ]/g, "") || "0" : digits;
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : undefined;
}
