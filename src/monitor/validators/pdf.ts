/**
 * Check of structure: PDF. The header, the pointer at the end and what it points to must be there, and the first
 * streams that are only deflated must inflate.
 */
import { inflateSync } from "node:zlib";
import type { Validator } from "../validator.js";
import { invalid } from "./invalid.js";

/** The header may stand behind other bytes, and the pointer before some. */
const HEADER_WITHIN_BYTES = 1024;
const POINTER_WITHIN_BYTES = 2048;
const STREAMS_MAX = 200;
const STREAM_BYTES_MAX = 16 * 2 ** 20;
/** A stream's dictionary is looked for this far before it, bytes. */
const DICTIONARY_BYTES = 1024;
const DEFLATED = /\/Filter\s*(?:\/FlateDecode|\[\s*\/FlateDecode\s*\])/;
const LENGTH = /\/Length\s+(\d{1,9})(?!\d*\s+\d+\s+R)/;

export const pdfValidator: Validator = {
  name: "pdf",
  check: (content) => {
    const head = content.subarray(0, HEADER_WITHIN_BYTES).indexOf("%PDF-");
    if (head < 0) return invalid("it does not begin as PDF");
    const tailFrom = Math.max(0, content.length - POINTER_WITHIN_BYTES);
    const tail = content.toString("latin1", tailFrom);
    const pointer = /.*startxref\s+(\d{1,12})\s+%%EOF/s.exec(tail)?.[1];
    if (pointer === undefined) return invalid("the PDF ends without its pointer");
    const at = Number(pointer) + head;
    if (!/^\s*(?:xref|\d+\s+\d+\s+obj)/.test(content.toString("latin1", at, at + 64)) && Number(pointer) !== 0)
      return invalid("the PDF's pointer leads nowhere");
    return content.includes("/Encrypt") ? undefined : streamFault(content);
  },
};

function streamFault(content: Buffer): ReturnType<Validator["check"]> {
  let place = 0;
  for (let count = 0; count < STREAMS_MAX; count += 1) {
    place = content.indexOf("stream", place);
    if (place < 0) return undefined;
    const from = place + 6;
    const isEnd = content.toString("latin1", Math.max(0, place - 3), place) === "end";
    place = from;
    const start = startOfStream(content, from);
    if (isEnd || start === undefined) continue;
    const sizeBytes = deflatedBytes(content.toString("latin1", Math.max(0, from - DICTIONARY_BYTES), from));
    if (sizeBytes === undefined) continue;
    if (start + sizeBytes > content.length) return invalid("a PDF stream leads outside the file");
    if (!inflates(content.subarray(start, start + sizeBytes))) return invalid("a PDF stream is broken");
    place = start + sizeBytes;
  }
  return undefined;
}

function startOfStream(content: Buffer, from: number): number | undefined {
  if (content[from] === 0x0a) return from + 1;
  return content[from] === 0x0d && content[from + 1] === 0x0a ? from + 2 : undefined;
}

/** Size of the stream when its dictionary says that it is deflated and nothing else. */
function deflatedBytes(before: string): number | undefined {
  const object = before.slice(before.lastIndexOf(" obj") + 1);
  if (!DEFLATED.test(object)) return undefined;
  const length = LENGTH.exec(object)?.[1];
  return length === undefined ? undefined : Number(length);
}

function inflates(packed: Buffer): boolean {
  try {
    inflateSync(packed, { maxOutputLength: STREAM_BYTES_MAX });
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE";
  }
}
