/** Checks of structure: JSON and plain text. What they say is short and never holds content. */
import type { Complaint, Validator } from "../validator.js";
import { NOT_TEXT, decode, invalid, unchecked } from "./invalid.js";

export const jsonValidator: Validator = {
  name: "json",
  check: (content) => {
    const text = decode(content);
    return text === undefined ? NOT_TEXT : jsonFault(text);
  },
};

/**
 * JSON as it is met in the wild. Comments and commas before a closing bracket (settings of editors), and one document
 * a line (logs), are what people and programs turn valid JSON into on purpose; to call that damage would be wrong.
 */
export const jsonTextValidator: Validator = {
  name: "json",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return NOT_TEXT;
    const fault = jsonFault(text);
    if (fault === undefined || fault.kind === "unchecked") return fault;
    return isJsonLines(text) || jsonFault(withoutExtras(text)) === undefined ? undefined : fault;
  },
};

export const textValidator: Validator = {
  name: "text",
  check: (content): Complaint | undefined => {
    if (content.includes(0)) return invalid("holds NUL bytes, so it is no text");
    return decode(content) === undefined ? NOT_TEXT : undefined;
  },
};

function jsonFault(text: string): Complaint | undefined {
  try {
    JSON.parse(text);
    return undefined;
  } catch (error) {
    if (error instanceof RangeError) return unchecked("nested beyond what can be judged");
    return invalid(`no valid JSON${positionIn(error)}`);
  }
}

/** At least two lines, each a document of its own. */
function isJsonLines(text: string): boolean {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.length > 1 && lines.every((line) => jsonFault(line) === undefined);
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Comments become spaces, a comma before a closing bracket goes. Strings stay as they are. One pass. */
function withoutExtras(text: string): string {
  const parts: string[] = [];
  for (let place = 0; place < text.length;) {
    const end = endOfToken(text, place);
    const isComment = text.startsWith("//", place) || text.startsWith("/*", place);
    const token = text.slice(place, end);
    if (token === "," && /[\]}]/.test(nextSolid(text, end))) parts.push(" ");
    else parts.push(isComment ? " " : token);
    place = end;
  }
  return parts.join("");
}

function endOfToken(text: string, start: number): number {
  if (text.charCodeAt(start) === QUOTE) return endOfString(text, start + 1);
  if (text.startsWith("//", start)) return orEnd(text, text.indexOf("\n", start));
  if (text.startsWith("/*", start)) {
    const end = text.indexOf("*/", start + 2);
    return end < 0 ? text.length : end + 2;
  }
  if (text[start] === "," || text[start] === "/") return start + 1;
  for (let end = start + 1; end < text.length; end += 1) if (/[",/]/.test(text.charAt(end))) return end;
  return text.length;
}

function endOfString(text: string, from: number): number {
  for (let place = from; place < text.length; place += 1) {
    const code = text.charCodeAt(place);
    if (code === BACKSLASH) place += 1;
    else if (code === QUOTE) return place + 1;
  }
  return text.length;
}

/** The next character that is neither space nor comment. */
function nextSolid(text: string, from: number): string {
  let place = from;
  while (place < text.length) {
    if (/\s/.test(text.charAt(place))) place += 1;
    else if (text.startsWith("//", place) || text.startsWith("/*", place)) place = endOfToken(text, place);
    else return text.charAt(place);
  }
  return "";
}

function orEnd(text: string, place: number): number {
  return place < 0 ? text.length : place;
}

/** Where JSON.parse stopped; its message quotes content, so only the number is taken. */
function positionIn(error: unknown): string {
  const match = /position (\d+)/.exec(error instanceof Error ? error.message : "");
  if (match?.[1] !== undefined) return ` (at character ${match[1]})`;
  return /end of JSON/.test(error instanceof Error ? error.message : "") ? " (it ends too early)" : "";
}
