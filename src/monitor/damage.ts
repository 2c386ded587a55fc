/**
 * Decides whether new content of a registered file is damage. A suspicion (emptied, a tail of NULs, broken structure)
 * becomes damage only when the file was sound before, held broken through the grace, nobody is writing it, and it was
 * not moved or rotated. Otherwise the content is a new version like any other. A file that may only grow is damaged
 * whenever it lost something of what it held.
 */
import { type Deferred, deferred } from "../base/concurrency.js";
import type { Actor, DamageKind, NoticedBy } from "../base/events.js";
import { messageOf } from "../base/errors.js";
import { type BytePath, pathText } from "../base/paths.js";
import { turn, isSameStat, lookAt, stampOf } from "./look.js";
import type { ChangeJudge, SettledChange } from "./changes.js";
import type { SourceContext } from "./context.js";
import { lossOfGrown } from "./growth.js";
import { isLogOfStandingDatabase, isPutAwayLog } from "./intent/database-logs.js";
import { isExpiredReflog } from "./intent/git-housekeeping.js";
import { isMovedAway, isPushedOut } from "./intent/moves.js";
import type { AttackWatch } from "./judge/attack-watch.js";
import { TORN_NULS_MIN } from "./judge/torn.js";
import type { RegistryRecord } from "./registry.js";
import { onlyGrows } from "./rules.js";
import type { ChecksOfPath, FileJudgement, Shape } from "./validation.js";
import { withActor } from "./watch/actors.js";
import { RecentWriters } from "./writers.js";

/** A tail of NULs counts from this many bytes and this share of the file on, where there was none. */
const NUL_TAIL_BYTES_MIN = 512;
const NUL_TAIL_SHARE_MIN = 0.1;
/** A file that somebody keeps open for writing is not judged for this long; then it is a change. */
const WRITER_WAIT_MAX_MS = 30_000;
const WRITER_LOOK_MS = 1000;
/** Changes of a source that are judged at the same time; most of it is waiting for threads and the disk. */
const LANES = 4;
/** Suspects that wait at a time, some 1 KB each; beyond, what follows waits until one of them is judged. */
const SUSPECTS_MAX = 10_000;

export interface Suspicion {
  readonly kind: DamageKind;
  readonly detail: string;
}

export class DamageJudge {
  readonly #context: SourceContext;
  readonly #attack: AttackWatch;
  readonly #changes: () => ChangeJudge;
  /** The newest change of each path: of an older one the content is gone. */
  readonly #queue = new Map<BytePath, SettledChange>();
  /** How far the queue was gone through. */
  #cursor: Iterator<SettledChange, undefined> | undefined;
  readonly #suspects = new Set<Promise<void>>();
  /** Set while lanes wait for a suspect to be judged. */
  #room: Deferred<void> | undefined;
  /** Paths that are judged now: their next change waits, and others go first. */
  readonly #atWork = new Set<BytePath>();
  readonly #writers: RecentWriters;
  readonly #lanes = new Set<Promise<void>>();
  /** Lanes that will look into the queue again. */
  #laneCount = 0;

  constructor(context: SourceContext, attack: AttackWatch, changes: () => ChangeJudge) {
    this.#context = context;
    this.#writers = new RecentWriters(context.shared.clock);
    this.#attack = attack;
    this.#changes = changes;
  }

  /** Queues a change for inspection; the queue has no more than one of each path. */
  inspect(change: SettledChange): void {
    this.#queue.set(change.path, change);
    if (this.#laneCount >= LANES) return;
    this.#laneCount += 1;
    const lane = this.#runLane().finally(() => this.#lanes.delete(lane));
    this.#lanes.add(lane);
  }

  get pending(): number {
    return this.#queue.size + this.#suspects.size;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#lanes);
    await Promise.allSettled(this.#suspects);
  }

  #isStopped(): boolean {
    return this.#context.signal.aborted;
  }

  async #runLane(): Promise<void> {
    await turn();
    for (let change = this.#next(); change !== undefined; change = this.#next()) {
      if (this.#context.signal.aborted) break;
      this.#atWork.add(change.path);
      try {
        await this.#judge(change);
      } catch (error) {
        if (this.#isStopped()) break;
        const { name, shared } = this.#context;
        shared.log.error("watch.inspect_failed", {
          source: name,
          path: pathText(change.path),
          message: messageOf(error),
        });
        this.#changes().accept(change); // kept as a version, whatever it is
      } finally {
        this.#done(change.path);
      }
    }
    this.#laneCount -= 1;
  }

  /** The oldest change of a path that is not at work. */
  #next(): SettledChange | undefined {
    for (;;) {
      // One iterator for all: another from the front would pass over all that was taken out, each time.
      this.#cursor ??= this.#queue.values();
      const { value: change } = this.#cursor.next();
      if (change === undefined) {
        this.#cursor = undefined;
        return undefined;
      }
      if (this.#atWork.has(change.path)) continue; // it comes again behind the others when that is done
      this.#queue.delete(change.path);
      return change;
    }
  }

  #done(path: BytePath): void {
    this.#atWork.delete(path);
    const next = this.#queue.get(path);
    if (next === undefined) return;
    this.#queue.delete(path);
    this.#queue.set(path, next);
  }

  async #judge(change: SettledChange): Promise<void> {
    const { path, record } = change;
    const { validation, pauses } = this.#context.shared;
    const isPaused = pauses.covering(path, this.#context.nowMs()) !== undefined;
    const { mode } = this.#context.modeOf(path);
    if (record === undefined || isPaused || mode === "ignore") {
      this.#changes().accept(change);
      return;
    }
    if (onlyGrows(mode) && (await lossOfGrown(this.#context, path, record, change.node.stat)) !== undefined) {
      await this.#wait(() => this.#waitAndReportShrunk(change, record));
      return;
    }
    const checks = this.#context.validationRules.checksFor(path);
    const judgement = await validation.judge(path, checks, this.#context.signal);
    const suspicion = suspicionOf(judgement, record);
    const twin =
      suspicion === undefined ? await this.#context.uniqueFields.fault(path, path, this.#context.signal) : undefined;
    if (twin !== undefined) {
      await this.#wait(() => this.#waitAndReport(change, record, { kind: "schema_violation", detail: twin }));
      return;
    }
    if (suspicion === undefined) {
      await this.#acceptUnlessHeld(change, judgement.verdict.verdict === "valid" ? true : undefined);
      return;
    }
    if (!(await wasSound(this.#context, path, record, suspicion))) {
      await this.#acceptUnlessHeld(change, suspicion.kind === "nul_tail" ? undefined : false);
      return;
    }
    await this.#wait(() => this.#waitAndReport(change, record, suspicion));
  }

  /** The wait must not hold up other files; resolves when it has begun. */
  async #wait(judge: () => Promise<void>): Promise<void> {
    while (this.#suspects.size >= SUSPECTS_MAX) await (this.#room ??= deferred<void>()).promise;
    const wait = judge().catch(() => undefined);
    this.#suspects.add(wait);
    void wait.finally(() => {
      this.#suspects.delete(wait);
      this.#room?.resolve();
      this.#room = undefined;
    });
  }

  /** In an attack a version that looks encrypted is held instead. */
  async #acceptUnlessHeld(change: SettledChange, valid: boolean | undefined): Promise<void> {
    if (await this.#attack.holds(change)) this.#changes().notAccepted(change.path);
    else this.#changes().accept(change, valid);
  }

  async #waitAndReport(change: SettledChange, record: RegistryRecord, suspicion: Suspicion): Promise<void> {
    const { path, node } = change;
    const { clock } = this.#context.shared;
    await clock.sleep(this.#context.graceMs, this.#context.signal);
    let isWritten = this.#writers.has(path, node.stat);
    for (let waitedMs = 0; isWritten && waitedMs < WRITER_WAIT_MAX_MS; waitedMs += WRITER_LOOK_MS) {
      await clock.sleep(WRITER_LOOK_MS, this.#context.signal);
      isWritten = this.#writers.has(path, node.stat);
    }
    const look = lookAt(path);
    if (look.is !== "there" || !isSameStat(look.node.stat, node.stat)) this.#lookAgain(change);
    else if (isWritten || (await this.#isMoved(change, record))) this.#changes().accept(change, false);
    else await this.#report({ ...change, node: look.node }, suspicion);
  }

  /** A file that may only grow has not: rotated, or damaged, though its program may write on all the time. */
  async #waitAndReportShrunk(change: SettledChange, record: RegistryRecord): Promise<void> {
    await this.#context.shared.clock.sleep(this.#context.graceMs, this.#context.signal);
    const look = lookAt(change.path);
    const loss =
      look.is === "there" ? await lossOfGrown(this.#context, change.path, record, look.node.stat) : undefined;
    if (look.is !== "there" || loss === undefined) {
      this.#lookAgain(change);
      return;
    }
    const fresh = { ...change, node: look.node };
    const { mode } = this.#context.modeOf(change.path);
    const absent = { path: change.path, record, seenAtMs: change.item.seenAtMs };
    const isRotated = mode === "growing" && isPushedOut(absent, look.stats);
    if (isRotated || (await this.#isMoved(change, record))) this.#changes().accept(fresh);
    else await this.#report(fresh, loss);
  }

  #lookAgain({ path, item }: SettledChange): void {
    this.#changes().notAccepted(path);
    this.#changes().lookAgain(path, item);
  }

  async #isMoved({ path, item }: SettledChange, record: RegistryRecord): Promise<boolean> {
    const absent = { path, record, seenAtMs: item.seenAtMs };
    return (await isMovedAway(this.#context.shared, absent, this.#context.signal)) !== undefined;
  }

  async #report(change: SettledChange, suspicion: Suspicion): Promise<void> {
    const { path, node, item } = change;
    this.#changes().notAccepted(path);
    if (await this.#attack.takesDamage(change)) return;
    const [actor] = (await this.#context.shared.actors?.whoDid("written", [path])) ?? [];
    reportDamage(this.#context, { path, actor, stamp: stampOf(node.stat), ...suspicion }, item);
  }
}

/** Marks the file as damaged and tells. */
export function reportDamage(
  context: SourceContext,
  damage: Suspicion & { readonly path: BytePath; readonly stamp: string; readonly actor?: Actor | undefined },
  item: { readonly noticedBy: NoticedBy; readonly seenAtMs: number },
): void {
  const { shared, name } = context;
  const { path, kind, stamp, actor } = damage;
  const detail = withActor(damage.detail, actor);
  const record = shared.registry.get(name, path);
  if (record === undefined) return;
  shared.registry.put(name, path, { ...record, state: "lost", lossKind: kind, damagedStamp: stamp });
  if (record.state === "lost" && record.lossKind === kind) return; // told already; only what stands there differs
  shared.metrics.lost.add(1, { source: name, kind });
  const { noticedBy, seenAtMs } = item;
  const by = actor === undefined ? {} : { actor };
  shared.bus.emit("file.lost", { source: name, path, kind, noticedBy, seenAtMs, detail, ...by });
}

/** What looks wrong about content, compared with what is registered; undefined when nothing does. */
export function suspicionOf({ shape, verdict }: FileJudgement, record: RegistryRecord): Suspicion | undefined {
  if (shape === undefined) return undefined;
  if (shape.sizeBytes === 0 && record.stat.sizeBytes > 0)
    return { kind: "truncated", detail: `emptied; it held ${String(record.stat.sizeBytes)} bytes` };
  if (hasNulTail(shape)) return { kind: "nul_tail", detail: `its last ${String(shape.nulTailBytes)} bytes are NUL` };
  return verdict.verdict === "invalid" ? { kind: verdict.kind, detail: verdict.detail } : undefined;
}

/** Whether NULs at its end are nothing new: archives and images end so, in more or in fewer from version to version. */
export function endsInNuls(shape: Shape): boolean {
  return shape.nulTailBytes > NUL_TAIL_BYTES_MIN || hasNulTail(shape);
}

/** Whether a file ends as a torn write does. */
export function hasNulTail(shape: Shape): boolean {
  const { sizeBytes, nulTailBytes, hasOtherNuls } = shape;
  if (!hasOtherNuls && nulTailBytes >= TORN_NULS_MIN) return true;
  return nulTailBytes > NUL_TAIL_BYTES_MIN && nulTailBytes > sizeBytes * NUL_TAIL_SHARE_MIN;
}

/** Whether the registered version was free of what is suspected now. Broken before is not damaged now. */
export async function wasSound(
  context: SourceContext,
  path: BytePath,
  record: RegistryRecord,
  suspicion: Suspicion,
): Promise<boolean> {
  // SQLite empties and pads its logs.
  if (suspicion.kind === "nul_tail" && isLogOfStandingDatabase(path)) return false;
  if (suspicion.kind === "truncated") {
    const log = { source: context.name, path, record };
    if (isExpiredReflog(path, record)) return false;
    return record.stat.sizeBytes > 0 && !(await isPutAwayLog(context.shared, log, context.signal));
  }
  if (suspicion.kind !== "nul_tail" && record.valid === false) return false;
  // What was found valid once is judged again: the checks may be others than they were then.
  const old = await judgeRegistered(context, path, context.validationRules.checksFor(path));
  if (old === undefined) return false;
  if (suspicion.kind === "nul_tail") return old.shape !== undefined && !endsInNuls(old.shape);
  const valid = old.verdict.verdict === "valid";
  // What is registered may be another version by now, or be told as damaged.
  const now = context.shared.registry.get(context.name, path);
  if (now !== undefined && now.sha256 === record.sha256)
    context.shared.registry.put(context.name, path, { ...now, valid });
  return valid;
}

/** Judges the durable version of a path; undefined when the repository cannot give it. */
async function judgeRegistered(
  context: SourceContext,
  path: BytePath,
  checks: ChecksOfPath,
): Promise<FileJudgement | undefined> {
  const { known, validation, log } = context.shared;
  try {
    const entry = await known.current(path, context.name);
    if (entry === undefined || entry.node.kind !== "file") return undefined;
    const content = known.readContent(entry.node, context.signal);
    return await validation.judgeStream(content, path, checks, context.signal);
  } catch (error) {
    context.signal.throwIfAborted();
    log.warn("watch.old_version_unreadable", { path: pathText(path), message: messageOf(error) });
    return undefined;
  }
}
