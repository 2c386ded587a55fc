/** What a check has found: problems with the paths they hit, as many as a person can read. */
import { type BytePath, pathText } from "../base/paths.js";

export const PROBLEM_KINDS = [
  "config_damaged",
  "key_damaged",
  "log_damaged",
  "commit_damaged",
  "commit_missing",
  "fragment_damaged",
  "pack_missing",
  "pack_damaged",
  "tree_damaged",
  "content_damaged",
  "parity_damaged",
] as const;

export interface CheckProblem {
  readonly kind: (typeof PROBLEM_KINDS)[number];
  /** For a person, in one sentence. */
  readonly detail: string;
  /** Paths that are hit, at most 100. */
  readonly paths: readonly { readonly source: string; readonly path: BytePath }[];
}

/** Problems that a report lists; the rest is only counted. */
export const PROBLEMS_MAX = 1000;

/** Collects problems; beyond the limit they are only counted. */
export class Findings {
  readonly #problems: CheckProblem[] = [];
  readonly #hit = new Set<string>();
  count = 0;

  add(kind: CheckProblem["kind"], detail: string, paths: CheckProblem["paths"] = []): void {
    this.count += 1;
    if (this.#problems.length < PROBLEMS_MAX) this.#problems.push({ kind, detail, paths });
  }

  /** A path whose content is hit; the same version found again is not told twice. */
  addContent(source: string, path: BytePath, what: { readonly where: string; readonly missing: number }): void {
    const name = `${source}\0${path}\0${String(what.missing)}`;
    if (this.#hit.has(name)) return;
    if (this.#hit.size < PROBLEMS_MAX) this.#hit.add(name);
    const detail = `${pathText(path)} (${what.where}) lacks ${String(what.missing)} of its chunks`;
    this.add("content_damaged", detail, [{ source, path }]);
  }

  /** Takes what another part of the check has found. */
  addAll(other: Findings): void {
    this.count += other.count;
    this.#problems.push(...other.#problems.slice(0, PROBLEMS_MAX - this.#problems.length));
  }

  worstFirst(): readonly CheckProblem[] {
    const rank = (problem: CheckProblem): number => PROBLEM_KINDS.indexOf(problem.kind);
    return [...this.#problems].sort((a, b) => rank(a) - rank(b));
  }
}
