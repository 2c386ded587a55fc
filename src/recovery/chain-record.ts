/**
 * What one walk through a chain remembers for people: each candidate as it was judged, what each strategy found, and
 * what there is to say about the search. Bounded, whatever the strategies come up with.
 */
import type { Verdict } from "./acceptance.js";
import type { ContentFacts } from "./content-facts.js";
import type { JudgedCandidate, SearchedStrategy } from "./incident.js";
import { NO_SCORE, scoreOf } from "./score.js";
import type { Candidate, LostFile } from "./strategy.js";

/** Candidates that an incident remembers, and remarks beside them. */
export const JUDGED_MAX = 100;

export class ChainRecord {
  readonly #lost: LostFile;
  readonly #judged: JudgedCandidate[] = [];
  readonly #notes: string[] = [];
  readonly #found = new Map<string, number>();
  readonly #outcomes = new Map<string, SearchedStrategy["outcome"]>();

  constructor(lost: LostFile) {
    this.#lost = lost;
  }

  get judged(): readonly JudgedCandidate[] {
    return this.#judged;
  }

  get notes(): readonly string[] {
    return this.#notes;
  }

  /** Outcomes of the strategies that were asked. */
  get outcomes(): ReadonlyMap<string, SearchedStrategy["outcome"]> {
    return this.#outcomes;
  }

  note(text: string): void {
    if (this.#notes.length < JUDGED_MAX) this.#notes.push(text);
  }

  /** Remembers a judgement; gives its place, -1 when there is no room. */
  add(candidate: Candidate, verdict: Verdict, facts: ContentFacts | undefined): number {
    this.#found.set(candidate.strategy, (this.#found.get(candidate.strategy) ?? 0) + 1);
    if (this.#judged.length >= JUDGED_MAX) return -1;
    const { strategy, origin, fidelity, modifiedAtMs, command } = candidate;
    const sizeBytes = facts?.sizeBytes ?? candidate.sizeBytes;
    const sha256 = facts?.sha256 ?? candidate.sha256;
    this.#judged.push({
      strategy,
      origin,
      fidelity,
      ...(modifiedAtMs === undefined ? {} : { modifiedAtMs }),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      ...(sha256 === undefined ? {} : { sha256 }),
      ...(command === undefined ? {} : { command }),
      checks: [...verdict.checks, ...candidate.notes],
      verdict: verdict.verdict === "refuse" ? "refused" : "offered",
      why: verdict.why,
      score:
        verdict.verdict === "refuse"
          ? NO_SCORE
          : scoreOf(this.#lost, candidate, facts, verdict.verdict === "identical"),
    });
    return this.#judged.length - 1;
  }

  mark(record: number, verdict: JudgedCandidate["verdict"], why?: string): void {
    const judged = this.#judged[record];
    if (judged === undefined) return;
    const score = verdict === "refused" ? { score: NO_SCORE } : {};
    this.#judged[record] = { ...judged, verdict, why: why ?? judged.why, ...score };
  }

  /** Adds a line to the checks of a judgement. */
  check(record: number, line: string): void {
    const judged = this.#judged[record];
    if (judged !== undefined) this.#judged[record] = { ...judged, checks: [...judged.checks, line] };
  }

  /** How many candidates of a strategy were judged so far. */
  foundBy(strategy: string): number {
    return this.#found.get(strategy) ?? 0;
  }

  /** Says what came of asking a strategy; what was said first stays, but `taken` and `failed` are final. */
  concludes(strategy: string, outcome: SearchedStrategy["outcome"]): void {
    if (outcome === "taken" || outcome === "failed" || !this.#outcomes.has(strategy))
      this.#outcomes.set(strategy, outcome);
  }

  /** One line for each strategy of the chain, in its order. */
  searched(strategies: readonly string[]): readonly SearchedStrategy[] {
    return [...new Set(strategies)].map((strategy) => ({
      strategy,
      outcome: this.#outcomes.get(strategy) ?? "skipped",
      found: this.foundBy(strategy),
    }));
  }
}
