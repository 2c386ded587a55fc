/** How checks of structure complain, and the text of bytes. Complaints are short and never hold content. */
import type { Complaint } from "../validator.js";

export function invalid(detail: string): Complaint {
  return { kind: "invalid_structure", detail };
}

/** The check could not be made: the content is neither good nor bad for it. */
export function unchecked(detail: string): Complaint {
  return { kind: "unchecked", detail };
}

export const NOT_TEXT = invalid("not UTF-8 text");

/** The text of the bytes without a byte order mark; undefined when they are none or nobody knows the encoding. */
export function decode(content: Buffer, encoding = "utf-8"): string | undefined {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(content);
  } catch {
    return undefined;
  }
}
