/** What a recovery says at its end: for one path, and summed up for many. Pure. */
import type { BytePath } from "../base/paths.js";
import type { JudgedCandidate, SearchedStrategy, TakenCandidate } from "./incident.js";

export const RECOVERY_OUTCOMES = ["healed", "failed", "explained", "returned", "waiting"] as const;
/** healed: put back · explained: only looked · returned: it was there already · waiting: for a person. */
export type RecoveryOutcome = (typeof RECOVERY_OUTCOMES)[number];

/** What became of one path. */
export interface RecoveryResult {
  readonly path: BytePath;
  readonly outcome: RecoveryOutcome;
  readonly incidentId?: string;
  readonly taken?: TakenCandidate;
  readonly durationMs: number;
  readonly candidates: readonly JudgedCandidate[];
  readonly searched: readonly SearchedStrategy[];
  readonly notes: readonly string[];
  readonly manualCommands: readonly string[];
  /** Why it is so, for people. */
  readonly message: string;
}

/** How a folder that was made again is named as origin. */
export const FOLDER_ORIGIN = "the recorded folder";

/** Results that a batch report keeps in full; the sums count all. */
export const REPORT_RESULTS_MAX = 1000;

export interface BatchReport {
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly pathsTotal: number;
  readonly healed: number;
  readonly failed: number;
  readonly returned: number;
  readonly waiting: number;
  /** The first `REPORT_RESULTS_MAX`, failures before others. */
  readonly results: readonly RecoveryResult[];
}

/** Sums results up as they come, keeping a bounded number of them. */
export class BatchCollector {
  readonly #startedAtMs: number;
  readonly #counts = { healed: 0, failed: 0, returned: 0, waiting: 0, explained: 0 };
  readonly #bad: RecoveryResult[] = [];
  readonly #good: RecoveryResult[] = [];
  /** Folders that came back, by themselves or for what is in them: what is put into them later moves their times. */
  readonly healedFolders = new Set<BytePath>();

  constructor(startedAtMs: number) {
    this.#startedAtMs = startedAtMs;
  }

  add(result: RecoveryResult): void {
    this.#counts[result.outcome] += 1;
    if (result.taken?.origin === FOLDER_ORIGIN) this.healedFolders.add(result.path);
    this.#keep(result);
  }

  #keep(result: RecoveryResult): void {
    const kept = result.outcome === "failed" || result.outcome === "waiting" ? this.#bad : this.#good;
    if (kept.length < REPORT_RESULTS_MAX) kept.push(result);
  }

  /** Adds another batch's sums and results. */
  merge(report: BatchReport): void {
    for (const outcome of ["healed", "failed", "returned", "waiting"] as const)
      this.#counts[outcome] += report[outcome];
    for (const result of report.results) this.#keep(result);
  }

  /** The sums so far. */
  get counts(): { readonly healed: number; readonly failed: number; readonly returned: number } {
    return { ...this.#counts, failed: this.#counts.failed + this.#counts.waiting };
  }

  report(durationMs: number): BatchReport {
    const { healed, failed, returned, waiting, explained } = this.#counts;
    return {
      startedAtMs: this.#startedAtMs,
      durationMs,
      pathsTotal: healed + failed + returned + waiting + explained,
      healed,
      failed,
      returned,
      waiting,
      results: [...this.#bad, ...this.#good].slice(0, REPORT_RESULTS_MAX),
    };
  }
}
