/**
 * Check of structure: zip and what is built on it (office documents, jar, epub). The directory must be there, each
 * member must stand where it says, and as many as fit the limits are inflated and compared with their checksums.
 */
import { crc32, inflateRawSync } from "node:zlib";
import type { Complaint, Validator } from "../validator.js";
import { invalid, unchecked } from "./invalid.js";

const END_BYTES = 22;
const COMMENT_BYTES_MAX = 65_535;
const MEMBERS_MAX = 100_000;
/** One member, and all together: what is inflated at most, bytes. */
const MEMBER_BYTES_MAX = 32 * 2 ** 20;
const INFLATED_BYTES_MAX = 128 * 2 ** 20;
const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const WIDE_LOCATOR = 0x07064b50;
const WIDE_END = 0x06064b50;
const WIDE = 0xffffffff;

interface Directory {
  readonly offset: number;
  readonly count: number;
  /** Bytes before the archive, as in a self-extracting program. */
  readonly shift: number;
}

interface Member {
  readonly isEncrypted: boolean;
  readonly method: number;
  readonly crc: number;
  readonly packedBytes: number;
  readonly plainBytes: number;
  readonly at: number;
}

export const zipValidator: Validator = {
  name: "zip",
  check: (content) => {
    const directory = directoryOf(content);
    if (directory === undefined) return invalid("the zip directory is missing");
    if (directory.count > MEMBERS_MAX) return unchecked("more members than are checked");
    try {
      return checkMembers(content, directory);
    } catch {
      return invalid("the zip directory leads outside the file"); // a read beyond the end
    }
  },
};

/** True when a member is encrypted. Anything that is no zip gives false. */
export function isEncryptedZip(content: Buffer): boolean {
  const directory = directoryOf(content);
  if (directory === undefined) return false;
  try {
    return (content.readUInt16LE(directory.offset + 8) & 1) === 1;
  } catch {
    return false;
  }
}

function directoryOf(content: Buffer): Directory | undefined {
  const first = Math.max(0, content.length - END_BYTES - COMMENT_BYTES_MAX);
  for (let end = content.length - END_BYTES; end >= first; end -= 1) {
    if (content.readUInt32LE(end) !== END) continue;
    const sizeBytes = content.readUInt32LE(end + 12);
    const offset = content.readUInt32LE(end + 16);
    const count = content.readUInt16LE(end + 10);
    if (offset === WIDE || count === 0xffff) return wideDirectory(content, end);
    const shift = end - sizeBytes - offset;
    if (shift >= 0) return { offset: offset + shift, count, shift };
  }
  return undefined;
}

function wideDirectory(content: Buffer, end: number): Directory | undefined {
  const locator = end - 20;
  if (locator < 0 || content.readUInt32LE(locator) !== WIDE_LOCATOR) return undefined;
  const at = Number(content.readBigUInt64LE(locator + 8));
  if (at + 56 > content.length || content.readUInt32LE(at) !== WIDE_END) return undefined;
  return {
    offset: Number(content.readBigUInt64LE(at + 48)),
    count: Number(content.readBigUInt64LE(at + 32)),
    shift: 0,
  };
}

/** Throws RangeError when an offset leads outside. */
function checkMembers(content: Buffer, { offset, count, shift }: Directory): Complaint | undefined {
  let place = offset;
  let budgetBytes = INFLATED_BYTES_MAX;
  for (let index = 0; index < count; index += 1) {
    if (content.readUInt32LE(place) !== CENTRAL)
      return invalid(`member ${String(index)} of the zip directory is broken`);
    const member: Member = {
      isEncrypted: (content.readUInt16LE(place + 8) & 1) === 1,
      method: content.readUInt16LE(place + 10),
      crc: content.readUInt32LE(place + 16),
      packedBytes: content.readUInt32LE(place + 20),
      plainBytes: content.readUInt32LE(place + 24),
      at: content.readUInt32LE(place + 42) + shift,
    };
    place +=
      46 + content.readUInt16LE(place + 28) + content.readUInt16LE(place + 30) + content.readUInt16LE(place + 32);
    if (member.at - shift === WIDE || member.packedBytes === WIDE || member.plainBytes === WIDE) continue;
    const isChecked = member.plainBytes <= Math.min(MEMBER_BYTES_MAX, budgetBytes);
    if (isChecked) budgetBytes -= member.plainBytes;
    if (!isMemberSound(content, member, isChecked)) return invalid(`member ${String(index)} of the zip is broken`);
  }
  return undefined;
}

function isMemberSound(content: Buffer, member: Member, isInflated: boolean): boolean {
  const { at, packedBytes, plainBytes, method } = member;
  if (content.readUInt32LE(at) !== LOCAL) return false;
  const start = at + 30 + content.readUInt16LE(at + 26) + content.readUInt16LE(at + 28);
  if (start + packedBytes > content.length) return false;
  if (!isInflated || member.isEncrypted || (method !== 0 && method !== 8)) return true;
  const packed = content.subarray(start, start + packedBytes);
  try {
    const plain = method === 0 ? packed : inflateRawSync(packed, { maxOutputLength: Math.max(1, plainBytes) });
    return plain.length === plainBytes && crc32(plain) === member.crc;
  } catch {
    return false;
  }
}
