/**
 * The score of a candidate, 0 to 100: 100 is the last good content; below, validity outweighs freshness, freshness
 * outweighs completeness, and that outweighs provenance, each by more than all that follow together. It orders the
 * acceptable candidates of one step and is shown for all; whether one is acceptable at all is `acceptance.ts`. Pure.
 */
import type { ContentFacts } from "./content-facts.js";
import type { Score } from "./incident.js";
import type { Candidate, LostFile } from "./strategy.js";

const IDENTICAL: Score = { identity: 100, validity: 0, freshness: 0, completeness: 0, provenance: 0 };
/** Of a candidate that cannot be put back. */
export const NO_SCORE: Score = { ...IDENTICAL, identity: 0 };
const VALIDITY_POINTS = { valid: 60, unchecked: 30, invalid: 0 } as const;
const AS_NEW_POINTS = 24;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const FRESHNESS_POINTS = [
  { olderAtMostMs: HOUR_MS, points: 18 },
  { olderAtMostMs: DAY_MS, points: 12 },
  { olderAtMostMs: 30 * DAY_MS, points: 6 },
] as const;
const COMPLETENESS_POINTS = [
  { shareMin: 0.9, points: 4 },
  { shareMin: 0.5, points: 2 },
] as const;

/** Scores a candidate; without `facts` (its bytes were not read) by what it says of itself. */
export function scoreOf(
  lost: LostFile,
  candidate: Candidate,
  facts: ContentFacts | undefined,
  isIdentical: boolean,
): Score {
  if (isIdentical) return IDENTICAL;
  return {
    identity: 0,
    validity: facts === undefined ? 0 : VALIDITY_POINTS[facts.validity.verdict],
    freshness: freshnessOf(lost, candidate),
    completeness: completenessOf(lost, candidate, facts?.sizeBytes ?? candidate.sizeBytes),
    provenance: candidate.ownerUid === undefined || candidate.ownerUid === 0 ? 1 : 0,
  };
}

/** 0 to 100. */
export function totalOf(score: Score): number {
  return score.identity + score.validity + score.freshness + score.completeness + score.provenance;
}

/** At least as new as the last good content; when nothing is known of that, anything is. */
export function isAsNew(lost: LostFile, candidate: Candidate): boolean {
  if (lost.lastGood === undefined || lost.lastGood.kind !== "file") return true;
  if (candidate.fidelity === "older") return false;
  if (candidate.modifiedAtMs === undefined) return candidate.fidelity === "newer";
  return candidate.modifiedAtMs >= lastGoodMs(lost.lastGood);
}

function freshnessOf(lost: LostFile, candidate: Candidate): number {
  if (isAsNew(lost, candidate)) return AS_NEW_POINTS;
  if (lost.lastGood === undefined || candidate.modifiedAtMs === undefined) return 0;
  const olderByMs = lastGoodMs(lost.lastGood) - candidate.modifiedAtMs;
  return FRESHNESS_POINTS.find(({ olderAtMostMs }) => olderByMs <= olderAtMostMs)?.points ?? 0;
}

function completenessOf(lost: LostFile, candidate: Candidate, sizeBytes: number | undefined): number {
  if (candidate.fidelity === "partial" || sizeBytes === undefined) return 0;
  const lastBytes = lost.lastGood?.stat.sizeBytes ?? sizeBytes;
  return COMPLETENESS_POINTS.find(({ shareMin }) => sizeBytes >= lastBytes * shareMin)?.points ?? 0;
}

/** File times are compared in whole ms: editors and git keep no more. */
function lastGoodMs(good: NonNullable<LostFile["lastGood"]>): number {
  return Number(good.stat.mtimeNs / 1_000_000n);
}
