/**
 * Whether a candidate may be put back, and why: identity with the last good content is final; otherwise it must be
 * valid, new enough, complete enough and of good provenance, as far as the policy asks. Pure: facts in, verdict out.
 */
import { formatDuration } from "../base/units.js";
import type { AcceptanceLevel, Candidate, LostFile } from "./strategy.js";
import type { ContentFacts } from "./content-facts.js";
import type { Score } from "./incident.js";
import { isAsNew, totalOf } from "./score.js";

/** What the policy and the person allow. */
export interface AcceptanceRule {
  readonly accept: AcceptanceLevel;
  /** Age that the step allows, ms; undefined: none set. */
  readonly maxAgeMs: number | undefined;
  readonly nowMs: number;
  /** SHA-256 of what stands there (damaged, or looked at only), when it is known: the same bytes are no cure. */
  readonly damagedSha256: string | undefined;
  /** A person has asked for this and sees what it is: what is only ever offered may be taken. */
  readonly byPerson: boolean;
}

export interface Verdict {
  /** identical: take it, look no further · acceptable: take the best of these · offer: a person may · refuse: never. */
  readonly verdict: "identical" | "acceptable" | "offer" | "refuse";
  readonly why: string;
  /** One line each, for people. */
  readonly checks: readonly string[];
}

/** Judges a candidate; without `facts` by what it says of itself, so that hopeless ones need not be read. */
export function judge(
  lost: LostFile,
  candidate: Candidate,
  facts: ContentFacts | undefined,
  rule: AcceptanceRule,
): Verdict {
  const checks: string[] = [];
  const verdict = (kind: Verdict["verdict"], why: string): Verdict => ({ verdict: kind, why, checks });
  const sha256 = facts?.sha256 ?? candidate.sha256;
  if (facts !== undefined) checks.push(`content: ${facts.validity.verdict}, ${facts.validity.detail}`);
  const isDamage = sha256 !== undefined && sha256 === rule.damagedSha256;
  if (isDamage)
    return verdict(
      "refuse",
      isIdentical(lost, sha256, undefined)
        ? "it is the last good content, and stands there already"
        : "these are the damaged bytes themselves",
    );
  const refusal = refusalOf(candidate, lost, rule);
  if (refusal !== undefined) return verdict("offer", refusal);
  if (isIdentical(lost, sha256, facts?.gitBlobId)) {
    checks.push("identity: the last good content, byte for byte");
    return verdict("identical", "it is the last good content");
  }
  if (candidate.unfit !== undefined) return verdict(unfitVerdict(lost, candidate, facts), candidate.unfit);
  const flaw = facts === undefined ? undefined : contentFlaw(lost, facts);
  if (flaw !== undefined) return verdict("offer", flaw);
  if (candidate.sameInode === true && lost.kind === "deleted") {
    checks.push("identity: the lost inode itself, still held open");
    return verdict("identical", "it is the lost file itself, with all that was written to it");
  }
  return judgeByPolicy(lost, candidate, rule, checks);
}

/**
 * Orders acceptable candidates of one step: whole before partial, then by score, then the newer, then the larger.
 * Negative: `a` goes first.
 */
export function compareAcceptable(a: Scored, b: Scored): number {
  const whole = Number(a.candidate.fidelity === "partial") - Number(b.candidate.fidelity === "partial");
  if (whole !== 0) return whole;
  const score = totalOf(b.score) - totalOf(a.score);
  if (score !== 0) return score;
  const newer = (b.candidate.modifiedAtMs ?? -Infinity) - (a.candidate.modifiedAtMs ?? -Infinity);
  return Number.isNaN(newer) || newer === 0 ? b.facts.sizeBytes - a.facts.sizeBytes : newer;
}

interface Scored {
  readonly candidate: Candidate;
  readonly facts: ContentFacts;
  readonly score: Score;
}

/** Other bytes than the file's are never put back; unread ones of the right size could still be the right ones. */
function unfitVerdict(lost: LostFile, candidate: Candidate, facts: ContentFacts | undefined): Verdict["verdict"] {
  return facts === undefined && mayBeIdentical(lost, candidate) ? "offer" : "refuse";
}

/** Of the right size and not known to be something else: only its bytes can tell. */
export function mayBeIdentical(lost: LostFile, candidate: Candidate): boolean {
  const good = lost.lastGood;
  return good?.sha256 !== undefined && candidate.sha256 === undefined && candidate.sizeBytes === good.stat.sizeBytes;
}

function isIdentical(lost: LostFile, sha256: string | undefined, gitBlobId: string | undefined): boolean {
  const good = lost.lastGood;
  if (good?.sha256 !== undefined) return sha256 === good.sha256;
  return good?.gitBlobId !== undefined && gitBlobId === good.gitBlobId;
}

/** Reasons that hold whatever the content is. */
function refusalOf(candidate: Candidate, lost: LostFile, rule: AcceptanceRule): string | undefined {
  if (candidate.offerOnly !== undefined && !rule.byPerson) return candidate.offerOnly;
  const owner = lost.lastGood?.uid;
  if (candidate.ownerUid === undefined || candidate.ownerUid === 0 || owner === undefined) return undefined;
  // Anyone may plant a swap file in /tmp or a process that holds a file of the right name.
  if (candidate.ownerUid !== owner)
    return `it belongs to user ${String(candidate.ownerUid)}, the file to user ${String(owner)}`;
  return undefined;
}

function contentFlaw(lost: LostFile, facts: ContentFacts): string | undefined {
  if (facts.validity.verdict === "invalid") return `its content is not valid: ${facts.validity.detail}`;
  if (facts.resembles === false)
    return "nothing of the last good content is in it: it was overwritten before it was deleted";
  const lastSizeBytes = lost.lastGood?.stat.sizeBytes ?? 0;
  if (facts.sizeBytes === 0 && lastSizeBytes > 0) return "it is empty, and the file was not";
  return undefined;
}

function judgeByPolicy(lost: LostFile, candidate: Candidate, rule: AcceptanceRule, checks: string[]): Verdict {
  const verdict = (kind: Verdict["verdict"], why: string): Verdict => ({ verdict: kind, why, checks });
  const bornMs = candidate.knownGoodAtMs ?? candidate.modifiedAtMs;
  const ageMs = bornMs === undefined ? undefined : rule.nowMs - bornMs;
  if (ageMs !== undefined) checks.push(`age: ${formatDuration(Math.max(0, ageMs))}`);
  if (candidate.fidelity === "partial") {
    checks.push("completeness: only a part of the file, or pieced together");
    if (rule.accept !== "partial")
      return verdict("offer", "it is partial, and the policy does not accept partial content");
  }
  if (rule.maxAgeMs !== undefined && !rule.byPerson) {
    if (ageMs === undefined) return verdict("offer", "its age is unknown, and max_age_hours is set");
    if (ageMs > rule.maxAgeMs) return verdict("offer", `it is older than max_age_hours allows`);
  }
  if (rule.accept === "identical")
    return verdict("offer", "it is not the last good content, and the policy accepts no other");
  if (rule.accept === "newer_valid" && rule.maxAgeMs === undefined && !isAsNew(lost, candidate))
    return verdict("offer", "it is older than the last good content, and the policy accepts only newer");
  return verdict("acceptable", "it is valid and the policy accepts it");
}
