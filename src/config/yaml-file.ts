/**
 * Reads one YAML file of the configuration and remembers where each key and value stands, so that a fault can be told
 * with line and column. `include` is followed one level; lists are joined and mappings merged.
 */
import { readFile, readdir } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import picomatch from "picomatch";
import { type Document, LineCounter, type Node, isMap, isScalar, isSeq, parseDocument } from "yaml";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import type { ConfigProblem, KeyPath } from "./problems.js";
import { CONFIG_LIMITS } from "./schema-parts.js";

export interface ConfigText {
  readonly file: string;
  readonly text: string;
}

/** A file as it was parsed. */
export class YamlFile {
  readonly file: string;
  readonly #document: Document;
  readonly #lines: LineCounter;

  constructor(source: ConfigText) {
    this.file = source.file;
    this.#lines = new LineCounter();
    this.#document = parseDocument(source.text, { lineCounter: this.#lines, prettyErrors: false, uniqueKeys: true });
  }

  /** What YAML itself finds wrong. */
  syntaxProblems(): ConfigProblem[] {
    return this.#document.errors.slice(0, 20).map((error) => ({
      file: this.file,
      ...this.#lineOf(error.pos[0]),
      message: error.message.split("\n")[0] ?? "the file is no YAML",
      hint: "",
    }));
  }

  /** The content as plain values; an empty file is an empty mapping. Throws CONFIG_INVALID when aliases explode. */
  content(): unknown {
    try {
      return this.#document.toJS({ maxAliasCount: 100 }) ?? {};
    } catch (error) {
      throw new HoldfastError("CONFIG_INVALID", `${this.file}: ${messageOf(error)}`, { cause: error });
    }
  }

  /** A fault at the value (or the key) that a path of keys leads to; the nearest place that exists. */
  problemAt(path: KeyPath, message: string, hint: string, onKey: boolean): ConfigProblem {
    return { file: this.file, ...this.#lineOf(this.#offsetOf(path, onKey)), message, hint };
  }

  #offsetOf(path: KeyPath, onKey: boolean): number {
    let node: unknown = this.#document.contents;
    let offset = startOf(node) ?? 0;
    for (const [depth, step] of path.entries()) {
      const next = childOf(node, step);
      if (next === undefined) break;
      const isLast = depth === path.length - 1;
      offset = (isLast && onKey ? next.keyOffset : undefined) ?? startOf(next.value) ?? next.keyOffset ?? offset;
      node = next.value;
    }
    return offset;
  }

  #lineOf(offset: number): { readonly line: number; readonly column: number } {
    const place = this.#lines.linePos(offset);
    return { line: Math.max(1, place.line), column: Math.max(1, place.col) };
  }
}

interface Child {
  readonly value: unknown;
  readonly keyOffset: number | undefined;
}

function childOf(node: unknown, step: string | number): Child | undefined {
  if (isSeq(node) && typeof step === "number") return { value: node.items[step], keyOffset: undefined };
  if (!isMap(node)) return undefined;
  const pair = node.items.find((item) => (isScalar(item.key) ? String(item.key.value) : undefined) === String(step));
  return pair === undefined ? undefined : { value: pair.value, keyOffset: startOf(pair.key) };
}

function startOf(node: unknown): number | undefined {
  const range = (node as Partial<Node> | null | undefined)?.range;
  return range?.[0];
}

/** Reads a file of at most 1 MiB. Throws CONFIG_UNREADABLE. */
export async function readConfigText(file: string): Promise<ConfigText> {
  try {
    const bytes = await readFile(file);
    if (bytes.length > CONFIG_LIMITS.fileBytesMax) throw new Error("it is larger than 1 MiB");
    return { file, text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (error) {
    const why = error instanceof TypeError ? "it is no UTF-8 text" : messageOf(error);
    throw new HoldfastError("CONFIG_UNREADABLE", `cannot read the configuration ${file}: ${why}`, { cause: error });
  }
}

/** True where the last name of an `include` has wildcards, so that it may mean no file at all. */
export function isGlob(pattern: string): boolean {
  return picomatch.scan(basename(pattern)).isGlob;
}

/** The files that an `include` pattern names, sorted; wildcards only in the last name. No match is no error. */
export async function includedFiles(pattern: string, fromFile: string): Promise<string[]> {
  const whole = isAbsolute(pattern) ? pattern : resolve(dirname(fromFile), pattern);
  const isWanted = picomatch(basename(whole));
  try {
    const names = await readdir(dirname(whole));
    return names
      .filter((name) => isWanted(name))
      .sort()
      .map((name) => join(dirname(whole), name));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw new HoldfastError("CONFIG_UNREADABLE", `cannot read ${dirname(whole)}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
