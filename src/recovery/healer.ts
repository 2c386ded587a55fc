/** Heals what the monitor reports lost or damaged, one path at a time, and keeps the incidents. */
import type { BytePath } from "../base/paths.js";
import type { LossEvent } from "../base/events.js";
import type { Incident } from "./incident.js";
import type { HealerOptions, RecoverOptions } from "./ports.js";
import type { BatchReport, RecoveryResult } from "./report.js";

/** A path found missing or damaged by a scan. */
export type LossFinding = Pick<LossEvent, "source" | "path" | "kind" | "detail">;

export declare class Healer implements AsyncDisposable {
  constructor(options: HealerOptions);
  /** Finishes what a crash interrupted, then listens to the bus. Call once. */
  start(signal: AbortSignal): Promise<void>;
  /** Resolves when nothing is queued or under way. */
  idle(): Promise<void>;
  /** Heals a waiting, noted or failed incident at a person's word. INCIDENT_NOT_FOUND, INCIDENT_STATE. */
  approve(id: string, signal: AbortSignal): Promise<BatchReport>;
  /** Accepts the loss (or the content as it stands). */
  deny(id: string): Promise<Incident>;
  /** Recovers one path at a person's word: any valid candidate will do. `source` names its source. */
  recover(source: string, path: BytePath, options: RecoverOptions, signal: AbortSignal): Promise<RecoveryResult>;
  /** Recovers what a scan found. */
  recoverAll(findings: readonly LossFinding[], signal: AbortSignal): Promise<BatchReport>;
  /** Puts quarantined bytes back to their place; what stands there is quarantined in turn. */
  restoreQuarantined(id: string, signal: AbortSignal): Promise<Incident>;
  /** Newest first. */
  incidents(filter: { readonly onlyOpen: boolean; readonly limit: number }): Promise<readonly Incident[]>;
  incident(id: string): Promise<Incident>;
  /** Every path of an incident. */
  incidentPaths(id: string): AsyncIterable<BytePath>;
  [Symbol.asyncDispose](): Promise<void>;
}
