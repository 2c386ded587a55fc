/**
 * Exclude patterns as people know them from .gitignore: `*.tmp` (the name, anywhere), `.cache/` (folders only),
 * `/build` and `a/b` (anchored at the source's folder), `!keep.tmp` (taken back; the last match wins). Patterns are
 * text and are compared bytewise, so that names which are not UTF-8 can be matched too.
 */
import picomatch from "picomatch";
import { type BytePath, nameOf, relativeTo } from "../base/paths.js";

interface ExcludePattern {
  readonly keeps: boolean;
  readonly folderOnly: boolean;
  readonly anchored: boolean;
  readonly test: (text: string) => boolean;
}

const GLOB_OPTIONS = { dot: true, nobrace: true, noextglob: true, nonegate: true } as const;

/** Decides about one name at a time; a folder that is excluded excludes everything below it. */
export class ExcludePatterns {
  readonly #patterns: readonly ExcludePattern[];

  constructor(lines: readonly string[]) {
    this.#patterns = lines.map(parsePattern).filter((pattern) => pattern !== undefined);
  }

  /** Whether the patterns name this very path below `root`; folders above it are not looked at. */
  excludes(path: BytePath, root: BytePath, isFolder: boolean): boolean {
    let excluded = false;
    for (const pattern of this.#patterns) {
      if (pattern.folderOnly && !isFolder) continue;
      if (excluded !== pattern.keeps) continue; // it could change nothing
      if (pattern.test(pattern.anchored ? relativeTo(path, root) : nameOf(path))) excluded = !pattern.keeps;
    }
    return excluded;
  }

  /** Whether the patterns exclude the path or a folder between `root` and it. */
  excludesWithin(path: BytePath, root: BytePath, isFolder: boolean): boolean {
    if (this.#patterns.length === 0 || path === root) return false;
    const start = root === "/" ? 1 : root.length + 1;
    for (let cut = path.indexOf("/", start); cut !== -1; cut = path.indexOf("/", cut + 1)) {
      if (this.excludes(path.slice(0, cut) as BytePath, root, true)) return true;
    }
    return this.excludes(path, root, isFolder);
  }
}

function parsePattern(line: string): ExcludePattern | undefined {
  let text = Buffer.from(line, "utf8").toString("latin1").trimEnd();
  if (text === "" || text.startsWith("#")) return undefined;
  const keeps = text.startsWith("!");
  if (keeps || text.startsWith("\\!") || text.startsWith("\\#")) text = text.slice(1);
  const folderOnly = text.endsWith("/");
  if (folderOnly) text = text.replace(/\/+$/, "");
  const anchored = text.includes("/");
  text = text.replace(/^\//, "");
  if (text === "") return undefined;
  return { keeps, folderOnly, anchored, test: picomatch(text, GLOB_OPTIONS) };
}

/** True when a configured path is a glob and not a plain name. */
export function isGlob(path: string): boolean {
  return /[*?[\]{}]/.test(path);
}

/** The folder part of a glob before its first wildcard, and whether it reaches below that folder's own names. */
export function globBase(glob: string): { readonly folder: string; readonly shallow: boolean } {
  const names = glob.split("/");
  const first = names.findIndex((name) => isGlob(name));
  return { folder: names.slice(0, first).join("/") || "/", shallow: first === names.length - 1 };
}

/** A test for whole paths against a glob; braces and `**` work. */
export function globMatcher(glob: string): (path: string) => boolean {
  return picomatch(glob, { dot: true, nonegate: true });
}
