/**
 * Checking a repository: configuration, commit chain, fragments, packs, trees, and that every chunk which a backup or a
 * version needs is there. With `sample` and `full` records are read and opened too, by the worker threads, while this
 * one goes over trees and versions. What is bad is marked suspect; nothing is ever deleted here.
 */
import { alongside } from "../base/concurrency.js";
import { Beside } from "./check-beside.js";
import { checkContent } from "./check-content.js";
import { type CheckProblem, Findings } from "./check-findings.js";
import { checkCommits, checkConfig, checkFragments, checkKeysAndLog, checkParity } from "./check-objects.js";
import { type CheckLevel, type CheckOptions, checkPacks, type CheckProgress } from "./check-packs.js";
import type { Repository } from "./repository.js";

export { type CheckProblem, PROBLEMS_MAX, PROBLEM_KINDS } from "./check-findings.js";
export { CHECK_LEVELS, type CheckLevel, type CheckOptions, type CheckProgress } from "./check-packs.js";

export interface CheckReport {
  readonly level: CheckLevel;
  readonly packsChecked: number;
  /** Packs that a resumed check had read before. */
  readonly packsSkipped: number;
  readonly recordsChecked: number;
  readonly bytesChecked: number;
  /** The worst first; at most `PROBLEMS_MAX`. */
  readonly problems: readonly CheckProblem[];
  /** Problems found, listed or not. */
  readonly problemCount: number;
}

/** Checks. Damage is in the report, never thrown. Throws INTERRUPTED, STORE_IO. */
export async function check(
  repository: Repository,
  options: CheckOptions,
  signal: AbortSignal,
  onProgress?: (progress: CheckProgress) => void,
): Promise<CheckReport> {
  const { core } = repository;
  if (options.level !== "structure") core.parts.pool.warm();
  const findings = new Findings();
  const beside = new Beside(core);
  await checkConfig(core, findings, signal);
  const [counted, content] = await alongside(
    async (inner) => await checkPacks(core, { options, findings, beside, onProgress }, inner),
    async (inner) => {
      await checkKeysAndLog(core, findings, inner);
      await checkCommits(core, { findings, beside }, inner);
      await checkFragments(core, { findings, beside }, inner);
      return await checkContent(core, beside, inner);
    },
    signal,
  );
  if (options.level === "full") await checkParity(core, findings, signal);
  // What was found bad meanwhile was not known when trees and versions were gone over.
  findings.addAll(counted.isSound ? content : await checkContent(core, beside, signal));
  const { isSound: _isSound, ...counts } = counted;
  return { level: options.level, ...counts, problems: findings.worstFirst(), problemCount: findings.count };
}
