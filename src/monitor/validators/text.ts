/** Checks of structure: JSON and plain text. What they say is short and never holds content. */
import type { Complaint, Validator } from "../validator.js";

export const jsonValidator: Validator = {
  name: "json",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return { kind: "invalid_structure", detail: "not UTF-8 text" };
    try {
      JSON.parse(text);
      return undefined;
    } catch (error) {
      if (error instanceof RangeError) return undefined; // nested beyond what can be judged
      return { kind: "invalid_structure", detail: `no valid JSON${positionIn(error)}` };
    }
  },
};

export const textValidator: Validator = {
  name: "text",
  check: (content): Complaint | undefined => {
    if (content.includes(0)) return { kind: "invalid_structure", detail: "holds NUL bytes, so it is no text" };
    if (decode(content) === undefined) return { kind: "invalid_structure", detail: "not UTF-8 text" };
    return undefined;
  },
};

/** The text of UTF-8 bytes without a byte order mark, or undefined when they are none. */
export function decode(content: Buffer): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch {
    return undefined;
  }
}

/** Where JSON.parse stopped; its message quotes content, so only the number is taken. */
function positionIn(error: unknown): string {
  const match = /position (\d+)/.exec(error instanceof Error ? error.message : "");
  if (match?.[1] !== undefined) return ` (at character ${match[1]})`;
  return /end of JSON/.test(error instanceof Error ? error.message : "") ? " (it ends too early)" : "";
}
