/**
 * Check of structure: well-formed XML, by saxes. Entities are never fetched nor expanded: the parser knows the five
 * built-in ones and numbers, so a document that declares its own and uses them is not judged.
 */
import { SaxesParser } from "saxes";
import type { Complaint, Validator } from "../validator.js";
import { NOT_TEXT, decode, invalid, unchecked } from "./invalid.js";

/** Elements inside each other; the parser keeps one record for each. */
const DEPTH_MAX = 10_000;
const DECLARES_ENTITIES = /<!ENTITY/;

export const xmlValidator: Validator = {
  name: "xml",
  check: (content) => {
    const encoding = encodingOf(content);
    const text = decode(content, encoding);
    if (text === undefined) return encoding === "utf-8" ? NOT_TEXT : unchecked("its encoding cannot be read");
    try {
      return fault(text);
    } catch {
      return unchecked("nested beyond what can be judged");
    }
  },
};

/** As the declaration or the mark at the beginning says; UTF-8 otherwise. */
function encodingOf(content: Buffer): string {
  if (content.length >= 2 && content.readUInt16LE(0) === 0xfeff) return "utf-16le";
  if (content.length >= 2 && content.readUInt16BE(0) === 0xfeff) return "utf-16be";
  const declared = /^(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}encoding\s*=\s*["']([\w.-]{1,40})["']/;
  return declared.exec(content.toString("latin1", 0, 300))?.[1]?.toLowerCase() ?? "utf-8";
}

/** Text given to the parser at once; it keeps what is unfinished. */
const PART_CHARACTERS = 65_536;

function fault(text: string): Complaint | undefined {
  const parser = new SaxesParser({ xmlns: false, position: true });
  const seen: { depth: number; deepest: number; ownEntities: boolean; fault?: string } = {
    depth: 0,
    deepest: 0,
    ownEntities: false,
  };
  parser.on("doctype", (doctype) => (seen.ownEntities = DECLARES_ENTITIES.test(doctype)));
  parser.on("opentag", () => (seen.deepest = Math.max(seen.deepest, ++seen.depth)));
  parser.on("closetag", () => (seen.depth -= 1));
  parser.on("error", () => (seen.fault ??= `no well-formed XML: line ${String(parser.line)}`));
  for (let start = 0; start < text.length && seen.fault === undefined; start += PART_CHARACTERS) {
    parser.write(text.slice(start, start + PART_CHARACTERS));
    if (seen.deepest > DEPTH_MAX) return unchecked("nested beyond what can be judged");
  }
  if (seen.fault === undefined) parser.close();
  if (seen.fault === undefined) return undefined;
  return seen.ownEntities ? unchecked("it declares entities of its own, which are not expanded") : invalid(seen.fault);
}
