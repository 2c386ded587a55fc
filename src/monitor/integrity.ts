/**
 * Reads protected files again and compares them with what is registered: on demand (`scan`) and in the background, a
 * little at a time, so that each file is read within the deadline (`scrub`). Content that differs while size, times
 * and inode are the same, twice, with nobody writing it, is bit rot, unless a store through a mapping may have been
 * missed when it was read before (engine/rot.ts): then it is a change.
 */
import { isRecent } from "../base/clock.js";
import type { NoticedBy } from "../base/events.js";
import { type BytePath, pathText } from "../base/paths.js";
import { hasTrueCtime, readingTimeMs, sawEveryStore, unseenStoresMs } from "../engine/rot.js";
import type { StatTuple } from "../engine/types.js";
import type { SourceContext } from "./context.js";
import { type Suspicion, reportDamage, suspicionOf, wasSound } from "./damage.js";
import { lossOfGrown } from "./growth.js";
import type { SourceGuard } from "./guard.js";
import { isSameStat, lookAt, stampOf } from "./look.js";
import type { Finding } from "./ports.js";
import type { KnownPath, RegistryRecord } from "./registry.js";
import { onlyGrows } from "./rules.js";
import type { Digest } from "./validation.js";
import { hasWriter } from "./writers.js";

/** Files up to this size are read together, so many at once; at most 16 MiB in all. */
const READ_TOGETHER_BYTES_MAX = 2 ** 18;
const READ_TOGETHER_MAX = 64;
/** A difference must show again after this pause, ms. */
const REREAD_PAUSE_MS = 1000;
/** The background reads a portion this often, ms. */
export const SCRUB_TICK_MS = 60_000;
/** A portion ends with so many bytes or more, so that small sources are done soon, */
const SCRUB_BYTES_MIN = 8 * 2 ** 20;
/**
 * or with so many files and folders: those of a tree that was stored right after it was written are all due at once, and
 * nobody waits for them. 0.2 % of a core.
 */
const SCRUB_PATHS_MIN = 500;
/**
 * Portions are this much larger than the deadline needs, to make up for pauses. Either limit ends one: by bytes alone two
 * thirds of the deadline are taken, by paths alone a sixth, together not more than both.
 */
const SCRUB_SLACK = 1.5;
const SCRUB_PATHS_SLACK = 6;
/** When nothing is due the registry is not looked through again for this share of the deadline, and this long, ms. */
const SCRUB_REST_SHARE = 0.05;
const SCRUB_REST_MAX_MS = 3_600_000;

/** The digest of a whole file, and when its reading began; undefined where it could not be read. */
interface Reading {
  readonly fromMs: number;
  readonly digest: Digest | undefined;
}

/** A registered path, with what was just read there, where that was done already. */
interface CheckedPath extends KnownPath {
  readonly reading?: Reading | undefined;
}

/**
 * Looks at many registered paths; the small ones are read together, for one question to the reading thread costs as much
 * as reading a small file. Gives what is wrong, in the order of the paths.
 */
export async function checkPaths(
  guard: SourceGuard,
  all: readonly KnownPath[],
  noticedBy: NoticedBy,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (let start = 0; start < all.length; start += READ_TOGETHER_MAX) {
    const some = all.slice(start, start + READ_TOGETHER_MAX);
    const readings = await readTogether(guard.context, some, signal);
    for (const { path, record } of some) {
      signal.throwIfAborted();
      const finding = await checkPath(guard, { path, record, reading: readings.get(path) }, noticedBy, signal);
      if (finding !== undefined) findings.push(finding);
    }
  }
  return findings;
}

async function readTogether(
  context: SourceContext,
  all: readonly KnownPath[],
  signal: AbortSignal,
): Promise<ReadonlyMap<BytePath, Reading>> {
  const { shared } = context;
  const wanted = all.filter(({ path, record }) => isReadTogether(record) && context.modeOf(path).mode !== "ignore");
  const small = wanted.map(({ path }) => path);
  if (small.length < 2) return new Map();
  const fromMs = readingTimeMs(shared.clock);
  const digests = await shared.validation.digests(small, READ_TOGETHER_BYTES_MAX, signal);
  if (digests === undefined) return new Map(); // one of them may hang: each is read alone, so that it harms itself only
  return new Map(small.map((path, index) => [path, { fromMs, digest: digests[index] }]));
}

async function readNow({ shared }: SourceContext, path: BytePath, signal: AbortSignal): Promise<Reading> {
  const fromMs = readingTimeMs(shared.clock);
  return { fromMs, digest: await shared.validation.digest(path, signal) };
}

function isReadTogether({ kind, state, sha256, stat }: RegistryRecord): boolean {
  const isKept = kind === "file" && (state === "live" || state === "lost");
  return isKept && sha256 !== undefined && stat.sizeBytes <= READ_TOGETHER_BYTES_MAX;
}

/** Looks at one registered path; undefined: nothing is wrong with it. */
export async function checkPath(
  guard: SourceGuard,
  { path, record, reading }: CheckedPath,
  noticedBy: NoticedBy,
  signal: AbortSignal,
): Promise<Finding | undefined> {
  const { context } = guard;
  const isKept = record.kind !== "folder" && (record.state === "live" || record.state === "lost");
  if (!isKept || context.modeOf(path).mode === "ignore") return undefined;
  const look = lookAt(path);
  if (look.is === "unknown") return undefined;
  if (look.is === "missing") {
    if (guard.awayReason(path) !== undefined) return undefined;
    guard.mark(path, noticedBy); // the judge weighs intent and mode before anything is healed
    return { source: context.name, path, kind: "deleted", detail: `${pathText(path)} is gone` };
  }
  if (record.kind !== "file" || look.node.kind !== "file") return undefined;
  if (record.stat.dev !== look.node.stat.dev && guard.awayReason(path) !== undefined) return undefined;
  const damage = await damageAt(guard, { path, record, reading }, look.node.stat, { noticedBy, signal });
  return damage === undefined ? undefined : { source: context.name, path, ...damage };
}

async function damageAt(
  guard: SourceGuard,
  { path, record, reading }: CheckedPath,
  stat: StatTuple,
  { noticedBy, signal }: { readonly noticedBy: NoticedBy; readonly signal: AbortSignal },
): Promise<Suspicion | undefined> {
  const { context } = guard;
  const stamp = stampOf(stat);
  if (record.state === "lost" && record.damagedStamp === stamp)
    return { kind: record.lossKind ?? "invalid_structure", detail: "reported before and not healed yet" };
  if (isSameStat(record.stat, stat)) {
    const content = await contentAt(context, { path, record, reading }, signal);
    if (content === "changed") guard.takeUnseen(path, record, noticedBy);
    if (content !== "rotten") return undefined;
    const detail = "its content changed while size, times and inode stayed the same";
    reportDamage(context, { path, kind: "bit_rot", detail, stamp }, { noticedBy, seenAtMs: context.nowMs() });
    return { kind: "bit_rot", detail };
  }
  guard.mark(path, noticedBy);
  const cut = onlyGrows(context.modeOf(path).mode) ? await lossOfGrown(context, path, record, stat) : undefined;
  if (cut !== undefined) return cut;
  const checks = context.validationRules.checksFor(path);
  const suspicion = suspicionOf(await context.shared.validation.judge(path, checks, signal), record);
  const isDamage = suspicion !== undefined && (await wasSound(context, path, record, suspicion));
  return isDamage ? suspicion : undefined;
}

/**
 * Compares content with what is registered under the same stat. `changed`: it may have been stored through a mapping
 * that nobody saw. `rotten`: nobody can have written it, and it shows twice. A sound file is noted as verified.
 */
async function contentAt(
  context: SourceContext,
  { path, record, reading }: CheckedPath,
  signal: AbortSignal,
): Promise<"as registered" | "changed" | "rotten" | "unclear"> {
  const { registry, validation, clock } = context.shared;
  if (record.sha256 === undefined) return "unclear";
  const differs = (digest: Digest | undefined): boolean | undefined => {
    if (digest === undefined || !isSameStat(digest.before, digest.after)) return undefined;
    return isSameStat(digest.after, record.stat) ? digest.sha256 !== record.sha256 : undefined;
  };
  const { fromMs, digest } = reading ?? (await readNow(context, path, signal));
  const first = differs(digest);
  if (first === undefined) return "unclear"; // it moves: a change, not rot
  const now = registry.get(context.name, path);
  if (now === undefined || now.sha256 !== record.sha256) return "unclear"; // registered anew meanwhile
  if (!first) {
    registry.put(context.name, path, { ...now, lastVerifiedMs: fromMs });
    return "as registered";
  }
  if (!sawEveryStore(record.stat.ctimeNs, record.lastVerifiedMs) || !hasTrueCtime(path)) return "changed";
  if (hasWriter(path, record.stat)) return "unclear";
  await clock.sleep(REREAD_PAUSE_MS, signal);
  const isStillRegistered = registry.get(context.name, path)?.sha256 === record.sha256;
  const isRotten =
    differs(await validation.digest(path, signal)) === true && isStillRegistered && !hasWriter(path, record.stat);
  return isRotten ? "rotten" : "unclear";
}

/** Reads on through one source, a portion at a time. The place is kept across restarts. */
export class Scrubber {
  readonly #guard: SourceGuard;
  readonly #deadlineMs: number;
  /** A whole pass has found nothing to read: the next waits; either clock ends the wait (one stands still in sleep, one may jump). */
  #rest: { readonly untilWallMs: number; readonly untilSteadyMs: number } | undefined;

  /** Every file is to be read within `deadlineMs`. */
  constructor(guard: SourceGuard, deadlineMs: number) {
    this.#guard = guard;
    this.#deadlineMs = deadlineMs;
  }

  /**
   * One portion. Files verified in the first half of the deadline are passed over, so the oldest come first; but not
   * those that were read so soon after their ctime that what was stored through a mapping since would not show.
   */
  async portion(signal: AbortSignal): Promise<number> {
    const { context } = this.#guard;
    const { registry, clock } = context.shared;
    const note = `scrub:${context.name}`;
    const ticks = Math.max(1, this.#deadlineMs / SCRUB_TICK_MS);
    const totals = registry.totals(context.name);
    const budgetBytes = Math.max(SCRUB_BYTES_MIN, (totals.bytes / ticks) * SCRUB_SLACK);
    const budgetPaths = Math.max(SCRUB_PATHS_MIN, (totals.files / ticks) * SCRUB_PATHS_SLACK);
    const fresh = await this.#readFresh({ bytes: budgetBytes, paths: budgetPaths }, signal);
    if (this.#isResting() || fresh.bytes >= budgetBytes || fresh.paths >= budgetPaths) return fresh.bytes;
    const times: DueTimes = {
      wallMs: context.nowMs(),
      freshMs: this.#deadlineMs / 2,
      nowMs: readingTimeMs(clock),
      unseenMs: unseenStoresMs(),
    };
    let place = ((await registry.readNote(note)) ?? "") as BytePath;
    const isWholePass = place === "";
    let { bytes: readBytes, paths: readPaths } = fresh;
    const isEnough = (): boolean => readBytes >= budgetBytes || readPaths >= budgetPaths;
    for await (const page of registry.entriesAfter(context.name, place)) {
      const due: KnownPath[] = [];
      for (const known of page) {
        place = known.path;
        if (!isDue(known.record, times)) continue;
        readBytes += known.record.stat.sizeBytes;
        readPaths += 1;
        due.push(known);
        if (isEnough()) break;
      }
      await checkPaths(this.#guard, due, "scrub", signal);
      if (!isEnough()) continue;
      await registry.writeNote(note, place);
      return readBytes;
    }
    await registry.writeNote(note, ""); // through: begin anew
    if (isWholePass && readBytes === 0 && readPaths === 0) {
      const restMs = Math.min(SCRUB_REST_MAX_MS, this.#deadlineMs * SCRUB_REST_SHARE);
      this.#rest = { untilWallMs: clock.nowMs() + restMs, untilSteadyMs: clock.monotonicMs() + restMs };
    }
    return readBytes;
  }

  /** Reads what was read too soon before, until one of the limits is reached; gives how much that was. */
  async #readFresh(limits: Amount, signal: AbortSignal): Promise<Amount> {
    const { context, fresh } = this.#guard;
    const due: KnownPath[] = [];
    let readBytes = 0;
    for (const path of fresh.takeDue(readingTimeMs(context.shared.clock))) {
      const record = context.shared.registry.get(context.name, path);
      if (record?.state !== "live") continue;
      readBytes += record.stat.sizeBytes;
      due.push({ path, record });
      if (readBytes >= limits.bytes || due.length >= limits.paths) break;
    }
    await checkPaths(this.#guard, due, "scrub", signal);
    return { bytes: readBytes, paths: due.length };
  }

  #isResting(): boolean {
    const { clock } = this.#guard.context.shared;
    const rest = this.#rest;
    return rest !== undefined && clock.nowMs() < rest.untilWallMs && clock.monotonicMs() < rest.untilSteadyMs;
  }
}

/** How much a portion reads. */
interface Amount {
  readonly bytes: number;
  readonly paths: number;
}

interface DueTimes {
  readonly wallMs: number;
  /** What was verified so long ago, or seems to be as far ahead since the clock was set back, need not be verified again. */
  readonly freshMs: number;
  /** `readingTimeMs`. */
  readonly nowMs: number;
  /** Stores through a mapping can stay unseen so long after a ctime. */
  readonly unseenMs: number;
}

function isDue(record: RegistryRecord, { wallMs, freshMs, nowMs, unseenMs }: DueTimes): boolean {
  const { state, kind, lastVerifiedMs } = record;
  if (state !== "live") return false;
  if (!isRecent(lastVerifiedMs, wallMs, freshMs)) return true;
  const { ctimeNs } = record.stat;
  return (
    kind === "file" && !sawEveryStore(ctimeNs, lastVerifiedMs, unseenMs) && sawEveryStore(ctimeNs, nowMs, unseenMs)
  );
}
