/**
 * Check of structure: CSV with as many fields in each record as in the first, and every quote closed. The separator is
 * the one of comma, semicolon, tab and bar that the first line has most of.
 */
import { CsvError, parse } from "csv-parse/sync";
import type { Validator } from "../validator.js";
import { NOT_TEXT, decode, invalid, unchecked } from "./invalid.js";

const SEPARATORS = [",", ";", "\t", "|"] as const;
/** A longer record is no record but an unclosed quote, characters. */
const RECORD_CHARACTERS_MAX = 4 * 2 ** 20;

export const csvValidator: Validator = {
  name: "csv",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return NOT_TEXT;
    if (text.includes("\0")) return invalid("holds NUL bytes");
    try {
      parse(text, {
        delimiter: separatorOf(text),
        skip_empty_lines: true,
        max_record_size: RECORD_CHARACTERS_MAX,
        on_record: () => null, // only the structure matters, nothing is kept
      });
      return undefined;
    } catch (error) {
      if (error instanceof CsvError) return invalid(`no valid CSV: ${error.code.toLowerCase().replaceAll("_", " ")}`);
      return unchecked("it could not be read as CSV");
    }
  },
};

function separatorOf(text: string): string {
  const end = text.indexOf("\n");
  const first = end < 0 ? text : text.slice(0, end);
  const count = (separator: string): number => first.split(separator).length;
  return [...SEPARATORS].sort((left, right) => count(right) - count(left))[0] ?? ",";
}
