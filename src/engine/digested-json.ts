/**
 * Small JSON documents of the store that must be read without a key: the text, a line break, its SHA-256 in hex, a line
 * break. Nothing of a document is believed whose digest does not match.
 */
import { createHash } from "node:crypto";

const DIGEST = /^([\s\S]*)\n([0-9a-f]{64})\n$/;

export function encodeDigested(text: string): Buffer {
  return Buffer.from(`${text}\n${digestOf(text)}\n`, "utf8");
}

/** The document, or undefined when it is not what was written. */
export function decodeDigested(bytes: Buffer): unknown {
  const [, text, digest] = DIGEST.exec(bytes.toString("utf8")) ?? [];
  if (text === undefined || digest !== digestOf(text)) return undefined;
  return JSON.parse(text) as unknown;
}

function digestOf(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}
