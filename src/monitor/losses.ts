/**
 * Decides what a missing path means. Nothing is decided before the grace has passed and the burst has ended: then each
 * path is looked at once more, its mode and the evidence of intent are weighed, and what remains is a loss, told one
 * by one or, when there are many, as one event.
 */
import type { Actor, NoticedBy } from "../base/events.js";
import { messageOf } from "../base/errors.js";
import { type BytePath, parentPath } from "../base/paths.js";
import type { Timer } from "../base/clock.js";
import type { SourceContext } from "./context.js";
import { type Intent, judgeIntent } from "./intent.js";
import { meantBySaver, meantByTool } from "./intent/tools.js";
import { lookAt, turn } from "./look.js";
import { LossTelling, addParents } from "./loss-telling.js";
import {
  type Ground,
  type Missed,
  type MissingItem,
  asMissingFile,
  missingNow,
  nearestFolder,
  onceForFolder,
} from "./missing.js";
import type { DatedRecord, RegistryRecord } from "./registry.js";
import { withoutLoss } from "./registry-record.js";
import { roomOrNone } from "./registry-room.js";
import { takeStoredRemoval } from "./start-evidence.js";
import type { Departed } from "./judge/attack-watch.js";

export interface LossHooks {
  /** Looks at the roots and mounts, now, and tells what each path, registered on that device, stands on. */
  grounds(): (path: BytePath, dev: bigint) => Ground;
  /** The path is there after all. */
  lookAgain(path: BytePath, noticedBy: NoticedBy): void;
  /** True when nothing waits for its first look, so that what was moved here is known. */
  isLookedThrough(): boolean;
  /** True while what went before the start may stand under a name that was not met yet. */
  isStarting(): boolean;
  awaitRemoval(path: BytePath): void;
  /** True: it is the deed of an attacker and told as such. */
  takesDeparture(departed: Departed): boolean | Promise<boolean>;
  /** True while the source is looked through because many changes went unheard. */
  isCatchingUp(): boolean;
  /** True while the source is under attack: what is lost meanwhile may be a part of it. */
  isAttacked(): boolean;
  /** Looks at some of the registered neighbours of a missing path in a folder; missing ones are added. */
  survey(folder: BytePath, near: BytePath): Promise<void>;
}

/** Evidence that somebody is at work postpones a verdict for at most this long, ms. */
const UNDECIDED_MAX_MS = 10_000;
const UNDECIDED_PAUSE_MS = 500;
/** New files that are not looked at yet may be what was moved: wait for them this long, ms. */
const ARRIVALS_WAIT_MAX_MS = 5000;
const RETRY_MS = 100;
/** What a round had taken out that failed is judged again after this pause, ms. */
const FAILED_PAUSE_MS = 1000;
/** After rounds that failed one after another the pause doubles up to this, ms. */
const FAILED_PAUSE_MAX_MS = 30_000;
/** An attack that deletes must be seen before the grace is over: so many missing files at a time are looked into at once. */
const GLANCES_MAX = 16;
/** How soon, and how often: the new name may be heard of after the deletion, ms. */
const GLANCE_MS = 50;
const GLANCES_OF_ONE = 4;
/** Folders whose names are looked at before a verdict. */
const SURVEYS_MAX = 8;
const SLICE = 256;
/** Missing paths whose records are kept until they are judged; near 100 MB. Those of more are read again. */
const RECORDS_MAX = 200_000;

type Due = readonly (readonly [BytePath, MissingItem])[];

export interface Sign {
  readonly noticedBy: NoticedBy;
  /** When the path was first missed, wall ms. */
  readonly seenAtMs: number;
}

export class LossJudge {
  readonly #context: SourceContext;
  readonly #hooks: LossHooks;
  readonly #telling: LossTelling;
  readonly #missing = new Map<BytePath, MissingItem>();
  /** Paths of the round that is under way: whoever finds them missing meanwhile brings nothing new. */
  readonly #judged = new Set<BytePath>();
  /** Missing files that are looked into before their grace is over, and how often they were. */
  readonly #glances = new Map<BytePath, number>();
  #glanceTimer: Timer | undefined;
  #glancing: Promise<void> | undefined;
  #newestSinceMs = 0;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Rounds that failed since the last one that did not. */
  #failedCount = 0;

  constructor(context: SourceContext, hooks: LossHooks) {
    this.#context = context;
    this.#hooks = hooks;
    this.#telling = new LossTelling(context, {
      isAttacked: () => hooks.isAttacked(),
      isStillMissing: (path) => this.#judged.has(path),
    });
  }

  /**
   * Files were once stored of this root, and none was there when it was seen first: a disk that is not mounted, or a
   * new machine. What is missing below it is one event, however little it is.
   */
  begunWithout(root: BytePath): void {
    this.#telling.begunWithout(root);
  }

  get pending(): number {
    return this.#missing.size;
  }

  /** True when nothing is missing that is not judged. */
  get isAtRest(): boolean {
    return this.#missing.size === 0 && this.#running === undefined;
  }

  /** A registered, live path is not there. Known ones keep their first time. */
  add(path: BytePath, record: DatedRecord, { noticedBy, seenAtMs }: Sign): void {
    if (this.has(path) || this.#context.signal.aborted) return;
    const sinceMs = this.#nowMs();
    this.#newestSinceMs = sinceMs;
    const known = this.#missing.size < RECORDS_MAX ? record : undefined;
    this.#missing.set(path, { noticedBy, seenAtMs, sinceMs, dueMs: sinceMs + this.#context.graceMs, known });
    this.#schedule(this.#context.graceMs);
    if (this.#glances.size < GLANCES_MAX) this.#glances.set(path, 0);
    this.#scheduleGlance();
  }

  has(path: BytePath): boolean {
    return this.#missing.has(path) || this.#judged.has(path);
  }

  /** The path is there: whatever was missing is no more. */
  present(path: BytePath): void {
    this.#missing.delete(path);
    this.#judged.delete(path);
  }

  /** Forgets what is missing below a folder, because its storage is away. */
  forgetBelow(isAway: (path: BytePath) => boolean): void {
    for (const path of this.#missing.keys()) if (isAway(path)) this.#missing.delete(path);
    this.#telling.forgetBelow(isAway);
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    this.#glanceTimer?.cancel();
    await this.#running;
    await this.#glancing;
  }

  #nowMs(): number {
    return this.#context.shared.clock.monotonicMs();
  }

  #schedule(ms: number): void {
    if (this.#timer !== undefined || this.#running !== undefined || this.#context.signal.aborted) return;
    this.#timer = this.#context.shared.clock.after(ms, () => {
      this.#timer = undefined;
      this.#running = this.#round().finally(() => {
        this.#running = undefined;
        this.#judged.clear();
        this.#scheduleNext();
      });
    });
  }

  #scheduleGlance(): void {
    if (this.#glanceTimer !== undefined || this.#glances.size === 0 || this.#context.signal.aborted) return;
    this.#glanceTimer = this.#context.shared.clock.after(GLANCE_MS, () => {
      this.#glancing ??= this.#glance().finally(() => {
        this.#glanceTimer = this.#glancing = undefined;
        this.#scheduleGlance();
      });
    });
  }

  /** Whether the content of what is missing stands encrypted elsewhere: an attack is told before anything is a loss. */
  async #glance(): Promise<void> {
    const { shared, name, signal } = this.#context;
    for (const [path, count] of [...this.#glances]) {
      this.#glances.delete(path);
      const item = this.#missing.get(path);
      const record = shared.registry.get(name, path);
      if (signal.aborted || item === undefined || record?.state !== "live") continue;
      const isLast = count + 1 >= GLANCES_OF_ONE;
      if (!isLast) this.#glances.set(path, count + 1);
      if (lookAt(path).is !== "missing") continue;
      const { seenAtMs } = item;
      if (await this.#hooks.takesDeparture({ path, record, seenAtMs })) this.#missing.delete(path);
      else if (isLast && record.kind === "file") shared.bus.emit("file.missed", { source: name, path, seenAtMs });
    }
  }

  #scheduleNext(): void {
    let dueMs = Infinity;
    const soonMs = this.#nowMs() + RETRY_MS;
    for (const item of this.#missing.values()) {
      dueMs = Math.min(dueMs, item.dueMs);
      if (dueMs <= soonMs) break; // the oldest come first: of a hundred thousand mostly one is looked at
    }
    if (this.#telling.goesOn) dueMs = Math.min(dueMs, this.#newestSinceMs + this.#context.graceMs);
    if (dueMs !== Infinity) this.#schedule(Math.max(this.#pauseMs, dueMs - this.#nowMs()));
  }

  get #pauseMs(): number {
    if (this.#failedCount === 0) return RETRY_MS;
    return Math.min(FAILED_PAUSE_MS * 2 ** (this.#failedCount - 1), FAILED_PAUSE_MAX_MS);
  }

  async #round(): Promise<void> {
    let due: Due = [];
    try {
      if (this.#mustWait() || (await this.#findMore())) return;
      const goesOn = !this.#isQuiet(); // longer than anybody waits for its end
      due = this.#takeDue();
      const gone = await this.#withoutStored(await this.#stillGone(due));
      const { losses: files, folders } = await this.#withoutMeant(gone);
      const { losses, held } = this.#withEmptyFolders(files, folders);
      this.#telling.tell(losses, await this.#actorsOf(losses), goesOn);
      const stillHeld = held.filter(({ path }) => this.#judged.has(path));
      this.#context.shared.registry.markDeleted(this.#context.name, stillHeld, "deleted with its files");
      await roomOrNone(this.#context.shared.registry);
      this.#failedCount = 0;
    } catch (error) {
      if (this.#context.signal.aborted) return;
      this.#failedCount += 1;
      this.#context.shared.log.error("watch.judge_failed", { source: this.#context.name, message: messageOf(error) });
      this.#missAgain(due);
    }
  }

  /** What was told or accepted before the round failed is known as such and is passed over then. */
  #missAgain(due: Due): void {
    const dueMs = this.#nowMs() + FAILED_PAUSE_MS;
    for (const [path, item] of due)
      if (this.#judged.has(path) && !this.#missing.has(path)) this.#missing.set(path, { ...item, dueMs });
  }

  #mustWait(): boolean {
    const [oldest] = this.#missing.values();
    if (oldest === undefined) return !this.#telling.goesOn || !this.#isQuiet(); // its end is to be told
    const nowMs = this.#nowMs();
    if (this.#hooks.isStarting() && this.#areAllOfStart()) return true;
    if (!this.#hooks.isLookedThrough() && nowMs - this.#newestSinceMs < ARRIVALS_WAIT_MAX_MS) return true;
    return this.#telling.breaker.mustWait({
      pending: this.#missing.size,
      files: this.#files,
      nowMs,
      oldestSinceMs: oldest.sinceMs,
      quietSinceMs: this.#quietSinceMs,
    });
  }

  #areAllOfStart(): boolean {
    for (const { noticedBy } of this.#missing.values()) if (noticedBy !== "start") return false;
    return true;
  }

  #isQuiet(): boolean {
    return this.#nowMs() >= this.#quietSinceMs;
  }

  /** When the burst has ended, or will have, steady ms. What is looked through anyway brings the rest of a mass loss soon. */
  get #quietSinceMs(): number {
    const isToFollow = this.#hooks.isCatchingUp() && this.#isMass();
    return isToFollow ? Infinity : this.#newestSinceMs + this.#context.graceMs;
  }

  /** Live files of the source. */
  get #files(): number {
    return this.#context.shared.registry.totals(this.#context.name).files;
  }

  /** Whether what is missing now is one event already. */
  #isMass(): boolean {
    return this.#telling.breaker.isMass(this.#missing.size, this.#files, this.#nowMs());
  }

  /**
   * Looks at the neighbours of what is due: a deletion that goes on is seen there before its events arrive. True when
   * more is missing than was known.
   */
  async #findMore(): Promise<boolean> {
    if (this.#isMass()) return false; // it is one event as it is, and what comes late joins it
    const before = this.#missing.size;
    const surveyed = new Set<BytePath>();
    for (const path of this.#missing.keys()) {
      const folder = nearestFolder(path);
      if (surveyed.has(folder)) continue;
      surveyed.add(folder);
      await this.#hooks.survey(folder, path);
      if (surveyed.size >= SURVEYS_MAX || this.#missing.size > before) break;
    }
    return this.#missing.size > before;
  }

  /** What is due, taken out. */
  #takeDue(): Due {
    const nowMs = this.#nowMs();
    const isStarting = this.#hooks.isStarting();
    const due: [BytePath, MissingItem][] = [];
    for (const entry of this.#missing) {
      const [, { dueMs, noticedBy }] = entry;
      if (dueMs > nowMs || (isStarting && noticedBy === "start")) continue;
      due.push(entry);
      this.#judged.add(entry[0]);
    }
    if (due.length === this.#missing.size) this.#missing.clear();
    else for (const [path] of due) this.#missing.delete(path);
    return due;
  }

  /** Drops what came back and what only seems gone because its storage is away; the folder's own loss is kept. */
  async #stillGone(due: Due): Promise<readonly Missed[]> {
    const { shared } = this.#context;
    const gone: Missed[] = [];
    for (let start = 0; start < due.length; start += SLICE) {
      const slice = due.slice(start, start + SLICE);
      const records = await this.#recordsOf(slice);
      const isMissing = missingNow();
      const missing: (DatedRecord & { readonly path: BytePath; readonly item: MissingItem })[] = [];
      for (const [index, [path, item]] of slice.entries()) {
        const known = records[index];
        if (known === undefined || !isMissed(known.record)) continue;
        if (isMissing(path)) missing.push({ path, item, record: known.record, asOf: known.asOf });
        else this.#isBack(path, item);
      }
      for (const { path, record } of missing) shared.arrivals.departed(path, record.stat);
      // The ground is looked at after the paths: one that goes in between would make them all seem lost.
      const groundOf = onceForFolder(this.#hooks.grounds());
      for (const one of missing) {
        const ground = groundOf(one);
        if (ground.is === "away") this.#judged.delete(one.path);
        else gone.push({ ...one, ground, decision: this.#context.modeOf(one.path) });
      }
      await turn();
    }
    return gone;
  }

  /** What is known of missing paths now; what was read when they were missed need not be read again, unless it was written since. */
  async #recordsOf(slice: Due): Promise<readonly (DatedRecord | undefined)[]> {
    const { shared, name } = this.#context;
    const { registry } = shared;
    const isKept = ([path, { known }]: Due[number]): boolean =>
      known !== undefined && registry.isCurrent(name, path, known.asOf);
    const others = slice.filter((one) => !isKept(one)).map(([path]) => path);
    if (others.length === 0) return slice.map(([, { known }]) => known);
    const asOf = registry.moment;
    const read = await registry.getMany(name, others);
    const readOf = new Map(others.map((path, index) => [path, read[index]]));
    return slice.map(([path, { known }]) => {
      if (!readOf.has(path)) return known;
      const record = readOf.get(path);
      return record === undefined ? undefined : { record, asOf };
    });
  }

  /** Drops what was removed before the last end and noted by the repository alone. */
  async #withoutStored(gone: readonly Missed[]): Promise<readonly Missed[]> {
    const missed: Missed[] = [];
    for (const one of gone) {
      const isStored = one.item.noticedBy === "start" && (await takeStoredRemoval(this.#context, one.path, one.record));
      if (!isStored) missed.push(one);
    }
    return missed;
  }

  #isBack(path: BytePath, item: MissingItem): void {
    this.#judged.delete(path);
    this.#hooks.lookAgain(path, item.noticedBy);
  }

  /** Accepts what was meant to go; gives what was lost, and the folders that went. */
  async #withoutMeant(
    gone: readonly Missed[],
  ): Promise<{ readonly losses: readonly Missed[]; readonly folders: readonly Missed[] }> {
    const { shared, signal, name } = this.#context;
    const { files, folders, losses } = await this.#withoutAllowed(gone);
    const intents = await judgeIntent(
      shared,
      files.map((file) => asMissingFile(name, file)),
      signal,
    );
    // A tool that takes away very many is asked about all the same: it may be told wrongly what to clean.
    const isMass = this.#telling.breaker.isMass(files.length, this.#files, this.#nowMs());
    const actors = isMass ? [] : await this.#actorsOf(files);
    for (const [index, missed] of files.entries()) {
      if (index % SLICE === SLICE - 1) await turn();
      const isTaken = this.#hooks.takesDeparture(asMissingFile(name, missed));
      if (typeof isTaken === "boolean" ? isTaken : await isTaken) continue;
      const isStrict = missed.decision.mode === "append-only";
      this.#weigh(missed, orByActor(intents[index], isStrict ? undefined : actors[index], missed), losses);
    }
    return { losses, folders };
  }

  /** Accepts what the modes let go; of the rest, `losses` need no judging. */
  async #withoutAllowed(
    gone: readonly Missed[],
  ): Promise<{ readonly files: Missed[]; readonly folders: Missed[]; readonly losses: Missed[] }> {
    const { shared, name, groups } = this.#context;
    const files: Missed[] = [];
    const folders: Missed[] = [];
    const losses: Missed[] = [];
    const brokenGroupOf = groups.round(() => shared.registry.entries(name));
    for (const one of gone) {
      const { mode, why } = one.decision;
      const isRootLoss = one.ground.is === "deleted" && mode !== "ignore";
      const group = groups.isEmpty ? undefined : await brokenGroupOf(one.path);
      const missed = group === undefined ? one : { ...one, group };
      const isAllowed = mode === "ignore" || (mode === "mirror" && group === undefined);
      if (!isRootLoss && isAllowed) this.#accept(missed, `mode ${mode}: ${why}`);
      else if (missed.record.kind === "folder") folders.push(missed);
      else if (isRootLoss) losses.push(missed);
      else files.push(missed);
    }
    return { files, folders, losses };
  }

  #weigh(missed: Missed, intent: Intent, losses: Missed[]): void {
    if (intent.is === "meant") {
      this.#accept(missed, intent.reason);
      return;
    }
    const nowMs = this.#nowMs();
    if (intent.is === "undecided" && nowMs - missed.item.sinceMs < (intent.withinMs ?? UNDECIDED_MAX_MS)) {
      const dueMs = nowMs + UNDECIDED_PAUSE_MS;
      this.#missing.set(missed.path, { ...missed.item, dueMs });
      return;
    }
    losses.push(missed);
  }

  /**
   * A folder is no loss of its own: with lost files below it comes back as their parent. An empty one is lost when it
   * went together with a lost tree around it; alone its removal is accepted, for it holds nothing to heal.
   */
  #withEmptyFolders(
    losses: readonly Missed[],
    folders: readonly Missed[],
  ): { readonly losses: readonly Missed[]; readonly held: readonly Missed[] } {
    if (folders.length === 0) return { losses, held: [] };
    const parents = new Set<string>();
    for (const { path } of losses) addParents(parents, path);
    const later = new Set<string>();
    for (const path of this.#missing.keys()) addParents(later, path);
    const told = this.#telling.toldParents;
    const empty: Missed[] = [];
    const held: Missed[] = [];
    for (const folder of folders) {
      const { path } = folder;
      const parent = parentPath(path);
      if (parents.has(path) || told.has(path) || later.has(path)) held.push(folder);
      else if ((parents.has(parent) || told.has(parent)) && lookAt(parent).is === "missing") empty.push(folder);
      else this.#accept(folder, "the folder held no lost files");
    }
    return { losses: empty.length === 0 ? losses : [...losses, ...empty], held };
  }

  #accept({ path, record, item }: Missed, reason: string): void {
    const { shared, name } = this.#context;
    shared.registry.put(name, path, { ...withoutLoss(record), state: "removing", reason });
    this.#hooks.awaitRemoval(path);
    shared.bus.emit("file.removed", { source: name, path, reason, seenAtMs: item.seenAtMs });
  }

  async #actorsOf(missed: readonly Missed[]): Promise<readonly (Actor | undefined)[]> {
    const paths = missed.map(({ path }) => path);
    return (await this.#context.shared.actors?.whoDid("removed", paths)) ?? [];
  }
}

/** Without other evidence the removal by a tool of the system, or by who had set the file aside, counts as meant. */
function orByActor(intent: Intent | undefined, actor: Actor | undefined, { path, record }: Missed): Intent {
  if (intent !== undefined && intent.is !== "unknown") return intent;
  const reason = meantByTool(actor, path) ?? meantBySaver(actor, record);
  return reason === undefined ? { is: "unknown" } : { is: "meant", reason };
}

/** Not removed on purpose, and not told already as a part of an attack. */
function isMissed({ state, lossKind }: RegistryRecord): boolean {
  return state === "live" || (state === "lost" && lossKind !== "deleted");
}
