/**
 * Files that must be there: a source may say that so many files of a pattern are expected, and how old the newest may
 * be. A job that stopped writing, or a part of a group that is gone, is no change of any file; only counting shows it.
 * Counted beside each look at all files, on the disk itself. Pure but for what it is told.
 */
import type { BytePath } from "../base/paths.js";
import { counted, formatDuration } from "../base/units.js";
import { matcherOf } from "./rules.js";

export interface ExpectRule {
  /** As `match` of a mode rule. */
  readonly match: string;
  /** At least so many files; 1 or more. */
  readonly filesMin: number;
  /** The newest of them was changed at most this long ago, ms; undefined: whenever. */
  readonly ageMaxMs: number | undefined;
}

/** An expectation that does not hold. */
export interface UnmetExpectation {
  readonly match: string;
  /** For people: what is there and what was expected. */
  readonly detail: string;
}

/** What one look found for one rule. */
interface Count {
  files: number;
  /** Wall ms; -Infinity for none. */
  newestMs: number;
}

/** Counts files while somebody looks at them all. */
export class ExpectationTally {
  readonly counts: readonly Count[];
  readonly #matches: readonly ((path: BytePath) => boolean)[];

  constructor(matches: readonly ((path: BytePath) => boolean)[]) {
    this.#matches = matches;
    this.counts = matches.map(() => ({ files: 0, newestMs: -Infinity }));
  }

  /** A regular file is there. */
  saw(path: BytePath, mtimeNs: bigint): void {
    for (const [index, count] of this.counts.entries()) {
      if (this.#matches[index]?.(path) !== true) continue;
      count.files += 1;
      count.newestMs = Math.max(count.newestMs, Number(mtimeNs / 1_000_000n));
    }
  }
}

export class Expectations {
  readonly #rules: readonly ExpectRule[];
  readonly #matches: readonly ((path: BytePath) => boolean)[];
  /** The last look at each root. */
  readonly #tallies = new Map<BytePath, ExpectationTally>();

  constructor(rules: readonly ExpectRule[], roots: readonly BytePath[]) {
    this.#rules = rules;
    this.#matches = rules.map(({ match }) => {
      const matches = matcherOf(match);
      return (path) => matches(path, roots);
    });
  }

  /** Undefined when nothing is expected. */
  newTally(): ExpectationTally | undefined {
    return this.#rules.length === 0 ? undefined : new ExpectationTally(this.#matches);
  }

  /** A whole root was looked at. */
  looked(root: BytePath, tally: ExpectationTally): void {
    this.#tallies.set(root, tally);
  }

  /** Which rules do not hold, by the last look at each of these roots; undefined before all were looked at. */
  unmet(roots: readonly BytePath[], nowMs: number): readonly UnmetExpectation[] | undefined {
    const tallies = roots.map((root) => this.#tallies.get(root));
    if (tallies.includes(undefined)) return undefined;
    return this.#rules.flatMap((rule, index) => {
      const counts = tallies.flatMap((tally) => tally?.counts[index] ?? []);
      const files = counts.reduce((sum, count) => sum + count.files, 0);
      const newestMs = Math.max(...counts.map((count) => count.newestMs));
      const detail = complaintOf(rule, files, nowMs - newestMs);
      return detail === undefined ? [] : [{ match: rule.match, detail }];
    });
  }
}

function complaintOf({ filesMin, ageMaxMs }: ExpectRule, files: number, ageMs: number): string | undefined {
  if (files < filesMin)
    return `${String(files)} of at least ${counted(filesMin, "file")} ${filesMin === 1 ? "is" : "are"} there`;
  if (ageMaxMs === undefined || ageMs <= ageMaxMs) return undefined;
  return `the newest file is ${formatDuration(ageMs)} old and may be ${formatDuration(ageMaxMs)}`;
}
