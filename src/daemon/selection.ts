/**
 * What `--files` chooses: paths (a file, or everything below a folder) and globs, as a test for paths and as the places
 * that need be looked at, so that one file is found in a tree of millions without reading all of it. Pure.
 */
import { type BytePath, isWithin, pathFromText } from "../base/paths.js";
import { globOf } from "./glob.js";

/** A text with one of these is a glob. */
const GLOB_SIGNS = /[*?[{]/;
/** A folder of a glob that has one of these may stand for several. */
const OPEN_SIGNS = /[*?[\]{}()!+@|\\]/;
const ROOT = "/" as BytePath;

export interface Selection {
  /** All that is chosen is at or below these; none is within another, in path order. */
  readonly roots: readonly BytePath[];
  readonly includes: (path: BytePath) => boolean;
}

/** The selection of some texts; none of them chooses everything. */
export function selectionOf(files: readonly string[]): Selection {
  if (files.length === 0) return { roots: [ROOT], includes: () => true };
  const tests = files.map((text) => {
    if (GLOB_SIGNS.test(text)) return globOf(text);
    const chosen = pathFromText(text);
    return (path: BytePath) => isWithin(path, chosen);
  });
  const roots = outermost(files.map((text) => (GLOB_SIGNS.test(text) ? rootOfGlob(text) : pathFromText(text))));
  return { roots, includes: (path) => tests.some((test) => test(path)) };
}

/** The folder that everything the glob can mean lies in. */
function rootOfGlob(glob: string): BytePath {
  const names = glob.split("/");
  const isPlain = names[0] === "" && !names.slice(1).some((name) => name === "" || name === "." || name === "..");
  if (!isPlain) return ROOT;
  const open = names.findIndex((name) => OPEN_SIGNS.test(name));
  const root = names.slice(0, open).join("/");
  return root === "" ? ROOT : pathFromText(root);
}

function outermost(paths: readonly BytePath[]): BytePath[] {
  const kept: BytePath[] = [];
  for (const path of [...new Set(paths)].sort()) if (!kept.some((other) => isWithin(path, other))) kept.push(path);
  return kept;
}
