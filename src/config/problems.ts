/** What is wrong with a configuration, place by place, and the one error that tells all of it at once. */
import { HoldfastError } from "../base/errors.js";

export interface ConfigProblem {
  readonly file: string;
  /** From 1; 0: the whole file. */
  readonly line: number;
  readonly column: number;
  readonly message: string;
  /** What to write instead, or "". */
  readonly hint: string;
}

/** The keys that lead to a value; numbers for lists. */
export type KeyPath = readonly (string | number)[];

/** Tells a fault at a place below the thing that is being resolved. */
export type Fault = (path: KeyPath, message: string, hint: string) => void;

/** Problems shown at once; more are counted. */
export const PROBLEMS_SHOWN_MAX = 20;

/** `file:line:column message; hint`. */
export function problemLine(problem: ConfigProblem): string {
  const place = problem.line === 0 ? problem.file : `${problem.file}:${problem.line}:${problem.column}`;
  return `${place} ${problem.message}${problem.hint === "" ? "" : `; ${problem.hint}`}`;
}

/** CONFIG_INVALID with every problem, in the order of the files' lines. */
export function configInvalid(problems: readonly ConfigProblem[]): HoldfastError {
  const sorted = [...problems].sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column);
  const shown = sorted.slice(0, PROBLEMS_SHOWN_MAX);
  const more = sorted.length - shown.length;
  const lines = [...shown.map(problemLine), ...(more > 0 ? [`and ${more} more`] : [])];
  return new HoldfastError("CONFIG_INVALID", lines.join("\n"), { details: { problems: shown, more } });
}

/** `; did you mean "rotation"?` for a mistyped word, or "" when nothing is near. */
export function didYouMean(word: string, known: readonly string[]): string {
  const limit = word.length <= 4 ? 1 : word.length <= 8 ? 2 : 3;
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter((entry) => entry.distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return ranked[0] === undefined ? "" : `did you mean "${ranked[0].candidate}"?`;
}

/** Insertions, removals, replacements and swaps of neighbours that turn `a` into `b`. Words are cut at 64 letters. */
export function editDistance(a: string, b: string): number {
  const from = a.slice(0, 64);
  const to = b.slice(0, 64);
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const same = from[row - 1] === to[column - 1];
      let best = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      );
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      if (swapped) best = Math.min(best, (beforeLast[column - 2] ?? 0) + 1);
      current.push(best);
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length] ?? 0;
}
