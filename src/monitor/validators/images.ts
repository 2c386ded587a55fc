/**
 * Checks of structure: PNG (each chunk with its checksum), JPEG (markers up to the end of the image, none that cannot
 * be within the pixels) and GIF (blocks up to the trailer). Pixels are not decoded.
 */
import { crc32 } from "node:zlib";
import type { Validator } from "../validator.js";
import { invalid } from "./invalid.js";

const PNG_SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

export const pngValidator: Validator = {
  name: "png",
  check: (content) => {
    if (!content.subarray(0, 8).equals(PNG_SIGNATURE)) return invalid("it does not begin as PNG");
    for (let place = 8; place + 12 <= content.length;) {
      const sizeBytes = content.readUInt32BE(place);
      const end = place + 8 + sizeBytes;
      if (end + 4 > content.length) return invalid("the PNG ends within a chunk");
      if (crc32(content.subarray(place + 4, end)) !== content.readUInt32BE(end))
        return invalid(`the PNG chunk at byte ${String(place)} has a wrong checksum`);
      const name = content.toString("latin1", place + 4, place + 8);
      if (place === 8 && name !== "IHDR") return invalid("the PNG does not begin with its header");
      if (name === "IEND") return undefined; // what may follow is no part of the image
      place = end + 4;
    }
    return invalid("the PNG has no end");
  },
};

const SOI = 0xd8;
const EOI = 0xd9;
const SOS = 0xda;

export const jpegValidator: Validator = {
  name: "jpeg",
  check: (content) => {
    if (content[0] !== 0xff || content[1] !== SOI) return invalid("it does not begin as JPEG");
    for (let place = 2; place + 2 <= content.length;) {
      if (content[place] !== 0xff) return invalid(`no JPEG marker at byte ${String(place)}`);
      const marker = content[place + 1] ?? 0;
      if (marker === 0xff) {
        place += 1; // a fill byte
        continue;
      }
      if (marker === EOI) return undefined;
      if (!isSegment(marker)) return invalid(`no JPEG marker at byte ${String(place)}`);
      if (place + 4 > content.length) break;
      const end = place + 2 + content.readUInt16BE(place + 2);
      if (content.readUInt16BE(place + 2) < 2 || end > content.length) break;
      place = marker === SOS ? endOfScan(content, end) : end;
    }
    return invalid("the JPEG ends too early");
  },
};

/** Markers with a length: SOF, DHT, DAC, DQT, DNL, DRI, SOS, DHP, EXP, APPn, JPGn, COM. */
function isSegment(marker: number): boolean {
  return (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc8) || (marker >= 0xda && marker <= 0xfe);
}

/** Where the coded pixels end: at a marker other than a stuffed byte, a restart or a fill. */
function endOfScan(content: Buffer, from: number): number {
  for (let place = from; ;) {
    place = content.indexOf(0xff, place);
    if (place < 0) return content.length;
    const next = content[place + 1];
    if (next === undefined) return content.length;
    const isWithin = next === 0 || (next >= 0xd0 && next <= 0xd7);
    if (!isWithin && next !== 0xff) return place;
    place += isWithin ? 2 : 1;
  }
}

export const gifValidator: Validator = {
  name: "gif",
  check: (content) => {
    if (!/^GIF8[79]a$/.test(content.toString("latin1", 0, 6))) return invalid("it does not begin as GIF");
    let place = 13 + tableBytes(content[10] ?? 0);
    while (place < content.length) {
      const kind = content[place];
      if (kind === 0x3b) return undefined;
      if (kind === 0x21) place = endOfBlocks(content, place + 2);
      else if (kind === 0x2c) place = endOfBlocks(content, place + 11 + tableBytes(content[place + 9] ?? 0));
      else return invalid(`no GIF block at byte ${String(place)}`);
    }
    return invalid("the GIF ends too early");
  },
};

function tableBytes(flags: number): number {
  return (flags & 0x80) === 0 ? 0 : 3 * 2 ** ((flags & 7) + 1);
}

function endOfBlocks(content: Buffer, from: number): number {
  let place = from;
  for (let length = content[place]; length !== undefined; length = content[place]) {
    place += 1 + length;
    if (length === 0) return place;
  }
  return content.length;
}
