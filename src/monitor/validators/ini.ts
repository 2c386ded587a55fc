/**
 * Checks of structure: INI files and files of environment variables. Both have no grammar that all agree on, so only
 * what no reader accepts is a fault; and they are made only when a source asks for them.
 */
import type { Validator } from "../validator.js";
import { NOT_TEXT, decode, invalid } from "./invalid.js";

/** Control characters that no configuration holds. */
// eslint-disable-next-line no-control-regex -- they are what is looked for
const CONTROL = /[\0-\x08\x0e-\x1f]/;
const VARIABLE = /^(?:export\s+)?[A-Za-z_][A-Za-z0-9_.-]*\s*=\s*(.*)$/s;

export const iniValidator: Validator = {
  name: "ini",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return NOT_TEXT;
    let hasEntry = false;
    for (const [index, line] of text.split(/\r\n|\n|\r/).entries()) {
      const fault = iniFault(line, hasEntry);
      if (fault !== undefined) return invalid(`no valid INI: line ${String(index + 1)} ${fault}`);
      hasEntry ||= /[=:]/.test(line);
    }
    return undefined;
  },
};

function iniFault(line: string, mayContinue: boolean): string | undefined {
  if (CONTROL.test(line)) return "holds control characters";
  const trimmed = line.trim();
  if (trimmed === "" || trimmed.startsWith(";") || trimmed.startsWith("#")) return undefined;
  if (trimmed.startsWith("[")) return trimmed.includes("]") ? undefined : "opens a section and does not close it";
  if (/[=:]/.test(trimmed)) return /^[=:]/.test(trimmed) ? "has no key" : undefined;
  const isContinued = mayContinue && /^\s/.test(line);
  return isContinued || /^[\w.-]+$/.test(trimmed) ? undefined : "is neither section nor entry";
}

export const envValidator: Validator = {
  name: "env",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return NOT_TEXT;
    if (CONTROL.test(text)) return invalid("holds control characters");
    const lines = text.split(/\r\n|\n/);
    for (let index = 0; index < lines.length; index += 1) {
      const line = (lines[index] ?? "").trim();
      if (line === "" || line.startsWith("#")) continue;
      const value = VARIABLE.exec(line)?.[1];
      if (value === undefined) return invalid(`line ${String(index + 1)} is no variable`);
      const last = endOfValue(lines, index, value);
      if (last === undefined) return invalid(`line ${String(index + 1)} opens a quote that is never closed`);
      index = last;
    }
    return undefined;
  },
};

/** The line that closes the quote which the value opens; the same line when there is none. */
function endOfValue(lines: readonly string[], from: number, value: string): number | undefined {
  const quote = value[0];
  if (quote !== '"' && quote !== "'") return from;
  if (closes(value.slice(1), quote)) return from;
  for (let index = from + 1; index < lines.length; index += 1) if (closes(lines[index] ?? "", quote)) return index;
  return undefined;
}

function closes(text: string, quote: string): boolean {
  return (quote === '"' ? text.replace(/\\./g, "") : text).includes(quote);
}
