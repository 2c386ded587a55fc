/** What a restore did, counted and listed within limits. */
import { messageOf } from "../../base/errors.js";
import { type BytePath, pathText } from "../../base/paths.js";
import type { MetadataGap } from "../metadata.js";
import { targetCode } from "./place-batch.js";
import type { PutOutcome, RestoredAs } from "./protocol.js";

export const WARNINGS_MAX = 1_000;
export const PLAN_MAX = 1_000;
/** Failures listed; all are counted. */
const FAILED_MAX = 10_000;
/** Of the files that were immutable, those that are named. */
const IMMUTABLE_NAMED_MAX = 10;

export type RestoreAction = RestoredAs | "folder" | "delete" | "skip";

export interface RestoreFailure {
  readonly path: BytePath;
  readonly code: string;
  readonly message: string;
}

export interface RestoreReport {
  readonly restored: number;
  readonly skipped: number;
  readonly deleted: number;
  /** Changed since they were last stored, and stored as new versions before they were replaced or removed. */
  readonly kept: number;
  readonly bytes: number;
  readonly failed: readonly RestoreFailure[];
  /** All failures, also those beyond the list. */
  readonly failedCount: number;
  /** What could not be given back (owners, attributes), one line each, at most `WARNINGS_MAX`. */
  readonly warnings: readonly string[];
  /** The first `PLAN_MAX` things done, or to be done. */
  readonly plan: readonly { readonly path: BytePath; readonly action: RestoreAction }[];
}

export class Ledger {
  readonly #failed: RestoreFailure[] = [];
  readonly #warnings: string[] = [];
  readonly #plan: { path: BytePath; action: RestoreAction }[] = [];
  #restored = 0;
  #skipped = 0;
  #deleted = 0;
  #failedCount = 0;
  #immutableCount = 0;
  readonly #immutableNames: string[] = [];
  /** Changed things that were stored before they were replaced or removed. */
  kept = 0;
  filesDone = 0;
  bytesDone = 0;

  /** A file or node that was handled. */
  outcome(path: BytePath, outcome: PutOutcome): void {
    this.filesDone += 1;
    if (outcome.kind !== "done") {
      this.failure({
        path,
        code: outcome.kind === "failed" ? outcome.code : "RECORD_DAMAGED",
        message: outcome.message,
      });
      return;
    }
    if (outcome.action === "skip") this.#skipped += 1;
    else this.#restored += 1;
    this.bytesDone += outcome.bytes;
    this.#note(path, outcome.action);
    this.gaps(path, outcome.gaps);
  }

  /** Something that is no file: a folder made, a name deleted. */
  did(path: BytePath, action: "folder" | "delete"): void {
    if (action === "delete") this.#deleted += 1;
    else this.#restored += 1;
    this.#note(path, action);
  }

  gaps(path: BytePath, gaps: readonly MetadataGap[]): void {
    for (const gap of gaps) {
      const what = gap.name === undefined ? gap.what : `${gap.what} ${gap.name}`;
      this.warn(`${pathText(path)}: ${what} not restored (${gap.errno})`);
    }
  }

  warn(line: string): void {
    if (this.#warnings.length < WARNINGS_MAX) this.#warnings.push(line);
  }

  /** One of the entries was immutable or append-only when it was stored. */
  wasImmutable(path: BytePath): void {
    this.#immutableCount += 1;
    if (this.#immutableNames.length < IMMUTABLE_NAMED_MAX) this.#immutableNames.push(pathText(path));
  }

  fail(path: BytePath, error: unknown): void {
    this.failure({ path, code: targetCode(error), message: messageOf(error) });
  }

  failure(failure: RestoreFailure): void {
    this.#failedCount += 1;
    if (this.#failed.length < FAILED_MAX) this.#failed.push(failure);
  }

  /** Failures until now. */
  get failedCount(): number {
    return this.#failedCount;
  }

  report(): RestoreReport {
    const { kept, bytesDone: bytes } = this;
    const counts = { restored: this.#restored, skipped: this.#skipped, deleted: this.#deleted, kept, bytes };
    const lists = { failed: this.#failed, warnings: [...this.#warnings, ...this.#immutableLine()], plan: this.#plan };
    return { ...counts, failedCount: this.#failedCount, ...lists };
  }

  #immutableLine(): string[] {
    if (this.#immutableCount === 0) return [];
    const [names, count] = [this.#immutableNames.join(", "), String(this.#immutableCount)];
    return [`not made immutable or append-only again, as ${count} were when they were stored: ${names}`];
  }

  #note(path: BytePath, action: RestoreAction): void {
    if (action !== "skip" && this.#plan.length < PLAN_MAX) this.#plan.push({ path, action });
  }
}
