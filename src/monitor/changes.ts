/**
 * Decides what a change means. Every marked path is looked at again: unchanged against the registry is nothing, our
 * own write is registered, new content must rest and is then inspected, and becomes `file.changed` or damage. What is
 * missing is handed to the judge of losses, folders to the keeper of folders.
 */
import { type BigIntStats, readlinkSync } from "node:fs";
import type { NoticedBy } from "../base/events.js";
import { messageOf } from "../base/errors.js";
import { type BytePath, parentPath, pathText } from "../base/paths.js";
import { reach } from "../base/reach.js";
import type { Timer } from "../base/clock.js";
import type { FileNode } from "../engine/types.js";
import type { SourceContext } from "./context.js";
import { type DirtyItem, DirtySet, type RestingItem } from "./dirty.js";
import { type Look, NOTHING_TO_KEEP, isAsRegistered, isSameStat, lookAt, stampOf, turn } from "./look.js";
import { MissingFolders } from "./missing.js";
import type { DatedRecord, RegistryRecord } from "./registry.js";
import { withoutLoss } from "./registry-record.js";
import { roomOrNone } from "./registry-room.js";

/** A change is taken as it is after this long, even when it never rests, ms. */
const REST_MAX_MS = 5000;
/** Paths looked at before others get a turn. */
const SLICE = 256;
/** A walk waits while more paths than this are to be looked at. */
const ROOMY = 20_000;
/** Changes that were told and are not durable yet; the oldest are forgotten beyond (their commit still comes). */
const AWAITING_MAX = 200_000;

/** The stamp of a path that waits to be recorded as removed. */
const REMOVAL = "";

/** Content that rests and differs from what is registered. */
export interface SettledChange {
  readonly path: BytePath;
  readonly node: FileNode;
  readonly record: RegistryRecord | undefined;
  readonly item: DirtyItem;
}

export interface ChangeHooks {
  /** The path is not there; it may be a loss. */
  missing(path: BytePath, known: DatedRecord | undefined, item: DirtyItem): Promise<void>;
  /** True when the path is known to be missing, and that is not decided yet. */
  isMissed(path: BytePath): boolean;
  /** The path is there. */
  present(path: BytePath): void;
  folder(path: BytePath, look: Look & { readonly is: "there" }, item: DirtyItem): Promise<void>;
  /** Something happened to a path that could not be looked at. */
  unseen(path: BytePath): void;
  /** A registered file has new content: it is inspected, and then `accept` is called or damage reported. */
  inspect(change: SettledChange): void;
  /** A change is about to be told as the new version. */
  accepting(change: SettledChange): void;
  /** There is no room for this path: the source is to be looked through. */
  overflow(): void;
  /** True when what stands at the path, on this device, is not of the source's storage: that is away. */
  isForeign(path: BytePath, dev: bigint): boolean;
}

export class ChangeJudge {
  readonly #context: SourceContext;
  readonly #hooks: ChangeHooks;
  readonly #dirty = new DirtySet();
  /** Told and not yet durable, with what the validators said of that content. */
  readonly #awaiting = new Map<BytePath, { readonly stamp: string; readonly valid: boolean | undefined }>();
  /** Own writes that are compared with the repository's newest version. */
  readonly #comparing = new Set<Promise<void>>();
  /** Stamps of content that is being inspected. */
  readonly #inspected = new Map<BytePath, string>();
  readonly #roomWaiters = new Set<() => void>();
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Folders seen missing since others had a turn. */
  readonly #gone = new MissingFolders();
  /** A look is under way; one into a large folder takes long, and finds what is new in it last. */
  #isLooking = false;

  constructor(context: SourceContext, hooks: ChangeHooks) {
    this.#context = context;
    this.#hooks = hooks;
  }

  /** Notes that something happened to a path, wall ms. Cheap; the look comes later. */
  mark(path: BytePath, noticedBy: NoticedBy, thorough = false, seenAtMs = this.#context.nowMs()): void {
    if (this.#context.signal.aborted) return;
    const item = { noticedBy, seenAtMs, thorough };
    if (this.#dirty.mark(path, item)) this.#wake();
    else this.#hooks.overflow();
  }

  /** A write of holdfast's own stands at the path: it is looked at now, and when it goes before the look, it is missed anew. */
  ownWriteStands(path: BytePath): void {
    const { shared, name } = this.#context;
    const record = shared.registry.get(name, path);
    if (record?.state === "lost") {
      this.#hooks.present(path);
      shared.registry.put(name, path, { ...withoutLoss(record), healedAtMs: this.#context.nowMs() });
    }
    this.mark(path, "event");
  }

  /** Paths that wait for a look, for rest or for durability. */
  get pending(): number {
    return this.#dirty.size + this.#awaiting.size + this.#comparing.size;
  }

  /** Paths that wait for their first look. */
  get freshCount(): number {
    return this.#dirty.freshCount;
  }

  /** True when nothing waits for its first look: everything that appeared is known. */
  get isLookedThrough(): boolean {
    return this.#dirty.freshCount === 0;
  }

  /** True when no path waits for a look or is being looked at. */
  get isAtRest(): boolean {
    return this.#dirty.freshCount === 0 && !this.#isLooking && this.#comparing.size === 0;
  }

  /** True while it is not known what became of some path: not looked at to the end, or its removal is not durable yet. */
  get isUnsure(): boolean {
    if (!this.isAtRest) return true;
    for (const { stamp } of this.#awaiting.values()) if (stamp === REMOVAL) return true;
    return false;
  }

  /** Paths that are there with content or metadata that is not durable yet. */
  *unstored(): Generator<BytePath> {
    yield* this.#dirty.restingPaths();
    yield* this.#awaiting.keys();
    yield* this.#inspected.keys();
  }

  /** Resolves when a walk may mark more. */
  async room(): Promise<void> {
    while (this.#dirty.size > ROOMY && !this.#context.signal.aborted)
      await new Promise<void>((resolve) => this.#roomWaiters.add(resolve));
  }

  /** The content at the path is what it should be: tell it, so that it becomes durable. */
  accept(change: SettledChange, valid?: boolean): void {
    const { path, record, item } = change;
    const { name, shared } = this.#context;
    this.#compareQuietly(change);
    if (record?.state === "lost" && record.kind !== "folder") shared.bus.emit("file.returned", { source: name, path });
    this.#inspected.delete(path);
    this.#awaiting.delete(path);
    this.#awaiting.set(path, { stamp: stampOf(change.node.stat), valid });
    if (this.#awaiting.size > AWAITING_MAX) {
      const [oldest] = this.#awaiting.keys();
      if (oldest !== undefined) this.#awaiting.delete(oldest);
    }
    shared.bus.emit("file.changed", { source: name, path, seenAtMs: item.seenAtMs });
  }

  /** The version is told all the same when it cannot be compared with the one before: nothing may keep it from being stored. */
  #compareQuietly(change: SettledChange): void {
    try {
      this.#hooks.accepting(change);
    } catch (error) {
      const { name, shared } = this.#context;
      const path = pathText(change.path);
      shared.log.warn("watch.not_compared", { source: name, path, message: messageOf(error) });
    }
  }

  /** A file has other content under the stat that is registered: it is judged as what rests with a new stat is. */
  settleUnseen(path: BytePath, record: RegistryRecord, item: DirtyItem): void {
    const look = lookAt(path);
    if (look.is !== "there" || look.node.kind !== "file") return;
    const isMoved = !isSameStat(record.stat, look.node.stat);
    if (isMoved) this.mark(path, item.noticedBy);
    else if (!this.#isUnderWay(path, look.node, { ...item, noticedBy: "event" }))
      this.#settle({ path, node: look.node, record, item });
  }

  /** The inspection of a path ended without its content being accepted. */
  notAccepted(path: BytePath): void {
    this.#inspected.delete(path);
  }

  /** A removal was told and is not durable yet. */
  awaitRemoval(path: BytePath): void {
    this.#awaiting.set(path, { stamp: REMOVAL, valid: undefined });
  }

  /** The commit queue is done with a path; gives what the validators said, when it was of this very content. */
  settleAwaited(path: BytePath, stamp: string | undefined): boolean | undefined {
    const awaited = this.#awaiting.get(path);
    if (awaited === undefined) return undefined;
    this.#awaiting.delete(path);
    return awaited.stamp === stamp ? awaited.valid : undefined;
  }

  /** Looks again until the path rests, then inspects anew. */
  lookAgain(path: BytePath, item: DirtyItem): void {
    if (!this.#dirty.mark(path, item)) this.#hooks.overflow();
    this.#wake();
  }

  /** Waits for the look that is under way; the signal is aborted before. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    for (const wake of this.#roomWaiters) wake();
    await this.#running;
    await Promise.all(this.#comparing);
  }

  #wake(): void {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#dirty.freshCount > 0 && !this.#context.signal.aborted) this.#wake();
    });
  }

  async #run(): Promise<void> {
    const { clock } = this.#context.shared;
    await turn(); // the burst that woke us is marked first
    this.#gone.forget();
    this.#timer?.cancel();
    for (let count = 1; !this.#context.signal.aborted; count += 1) {
      const fresh = this.#dirty.takeFresh();
      const rested = fresh === undefined ? this.#dirty.takeRested(clock.monotonicMs()) : undefined;
      this.#isLooking = (fresh ?? rested) !== undefined;
      if (fresh !== undefined) await this.#guarded(fresh[0], () => this.#examine(fresh[0], fresh[1]));
      else if (rested !== undefined) await this.#guarded(rested[0], () => this.#examineRested(rested[0], rested[1]));
      else break;
      this.#isLooking = false;
      if (count % SLICE === 0) await this.#breathe();
    }
    this.#letIn();
    const dueMs = this.#dirty.nextDueMs;
    if (dueMs !== undefined && !this.#context.signal.aborted)
      this.#timer = clock.after(Math.max(1, dueMs - clock.monotonicMs()), () => this.#wake());
  }

  async #breathe(): Promise<void> {
    this.#letIn();
    await roomOrNone(this.#context.shared.registry);
    await turn();
    this.#gone.forget();
  }

  #letIn(): void {
    if (this.#dirty.size > ROOMY / 2) return;
    for (const wake of this.#roomWaiters) wake();
    this.#roomWaiters.clear();
  }

  async #guarded(path: BytePath, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const { name, shared } = this.#context;
      shared.log.error("watch.look_failed", { source: name, path: pathText(path), message: messageOf(error) });
    }
  }

  async #examine(path: BytePath, item: DirtyItem): Promise<void> {
    const { source, shared, name } = this.#context;
    if (this.#gone.has(parentPath(path)) && this.#hooks.isMissed(path)) {
      this.#dirty.drop(path);
      return;
    }
    const look = lookAt(path);
    if (look.is === "unknown") {
      if (look.errno !== NOTHING_TO_KEEP) this.#hooks.unseen(path);
      return; // the sweep looks again; what is known stays
    }
    if (look.is === "missing") {
      await this.#examineMissing(path, item);
      return;
    }
    const record = shared.registry.get(name, path);
    if (look.node.kind === "folder") {
      if (source.includes(path, "folder")) this.#examineNode(path, look, record, item);
      if (source.mayContain(path)) await this.#hooks.folder(path, look, item);
      return;
    }
    if (source.includes(path, look.node.kind)) this.#examineNode(path, look, record, item);
  }

  async #examineMissing(path: BytePath, item: DirtyItem): Promise<void> {
    const { source, shared, name } = this.#context;
    this.#dirty.drop(path);
    await this.#takeFolderAlong(path, item);
    if (this.#hooks.isMissed(path)) return;
    const known = shared.registry.read(name, path);
    if (known !== undefined || source.mayContain(path)) await this.#hooks.missing(path, known, item);
  }

  /** When a missing path's folder is missing too, so is all that is known in it: that is read at once, not one by one. */
  async #takeFolderAlong(path: BytePath, item: DirtyItem): Promise<void> {
    const folder = parentPath(path);
    if (!this.#gone.isNewlyMissing(folder) || this.#hooks.isMissed(folder)) return;
    const { shared, name } = this.#context;
    await this.#hooks.missing(folder, shared.registry.read(name, folder), item);
  }

  #examineNode(
    path: BytePath,
    look: Look & { readonly is: "there" },
    record: RegistryRecord | undefined,
    item: DirtyItem,
  ): void {
    const { node } = look;
    if (record?.stat.dev !== node.stat.dev && this.#hooks.isForeign(path, node.stat.dev)) return;
    this.#hooks.present(path);
    if (this.#takeRenumbered(path, node, record)) return;
    if (node.kind === "file" && !this.#context.source.fitsSize(node.stat.sizeBytes)) return;
    if (record?.stat.ino !== node.stat.ino) this.#noteArrival(path, node, look.stats);
    if (isKnown(record, node) || this.#isUnderWay(path, node, item) || this.#isOwnWrite(path, node, record)) return;
    if (node.kind !== "file" || this.#restLeftMs(node) === 0) {
      this.#settle({ path, node, record, item });
      return;
    }
    if (this.#dirty.restingAt(path) === undefined) this.#rest(path, node, item);
  }

  /** Registers the device's number anew where nothing else moved: it changes with the order in which disks are found. */
  #takeRenumbered(path: BytePath, node: FileNode, record: RegistryRecord | undefined): boolean {
    if (record?.state !== "live" || record.kind !== node.kind || record.stat.dev === node.stat.dev) return false;
    if (!isSameStat({ ...record.stat, dev: node.stat.dev }, node.stat)) return false;
    this.#context.shared.registry.put(this.#context.name, path, { ...record, stat: node.stat });
    return true;
  }

  /** Told already and not durable yet, or being inspected. A sweep tells again, should the commit have been lost. */
  #isUnderWay(path: BytePath, node: FileNode, item: DirtyItem): boolean {
    const stamp = stampOf(node.stat);
    if (this.#inspected.get(path) === stamp) return true;
    return item.noticedBy === "event" && this.#awaiting.get(path)?.stamp === stamp;
  }

  /** What holdfast put back has come from nowhere: a twin of it that goes missing next was not moved there. */
  #noteArrival(path: BytePath, node: FileNode, stats: BigIntStats): void {
    const { arrivals, clock, ledger } = this.#context.shared;
    if (!ledger.holds(path, node)) arrivals.note(path, stats, clock);
  }

  /** Registers what holdfast itself put there. True when there is nothing left to tell. */
  #isOwnWrite(path: BytePath, node: FileNode, record: RegistryRecord | undefined): boolean {
    const { shared, name } = this.#context;
    const own = shared.ledger.take(path, node);
    if (own === undefined || record === undefined) return false;
    const isKnownContent = own.sha256 === undefined || own.sha256 === record.sha256;
    const nowMs = this.#context.nowMs();
    shared.registry.put(name, path, { ...withoutLoss(record), ...registered(node), healedAtMs: nowMs });
    const item = { noticedBy: "event", seenAtMs: nowMs, thorough: false } as const;
    const change = { path, node, record: undefined, item };
    if (!isKnownContent) this.accept(change);
    else this.#acceptUnlessCurrent(change, own.sha256);
    return true;
  }

  /** What was healed must be the newest version again, also where the damage had become one before it was noticed. */
  #acceptUnlessCurrent(change: SettledChange, sha256: string | undefined): void {
    const { name, shared } = this.#context;
    const work = async (): Promise<void> => {
      const stored = (await shared.known.current(change.path, name))?.node;
      const isCurrent = sha256 === undefined ? isSameThing(change, stored) : stored?.sha256 === sha256;
      if (!isCurrent && !this.#context.signal.aborted) this.accept(change);
    };
    const done = this.#guarded(change.path, work).finally(() => this.#comparing.delete(done));
    this.#comparing.add(done);
  }

  /**
   * How long the file must still hold still, ms. Its ctime, which nobody can set, tells how long it has: at a start or
   * a sweep mostly for long, after an event that came late for a part. A ctime in the future tells nothing.
   */
  #restLeftMs(node: FileNode): number {
    const agedMs = this.#context.nowMs() - Number(node.stat.ctimeNs / 1_000_000n);
    return agedMs < 0 ? this.#context.restMs : Math.max(0, this.#context.restMs - agedMs);
  }

  #rest(path: BytePath, node: FileNode, item: DirtyItem, firstMs?: number): void {
    const nowMs = this.#context.shared.clock.monotonicMs();
    this.#context.shared.expectChange();
    this.#dirty.rest(path, {
      ...item,
      stamp: restStamp(node),
      firstMs: firstMs ?? nowMs,
      dueMs: nowMs + this.#restLeftMs(node),
    });
  }

  async #examineRested(path: BytePath, waited: RestingItem): Promise<void> {
    const look = lookAt(path);
    const isFile = look.is === "there" && look.node.kind === "file";
    if (!isFile) {
      await this.#examine(path, waited);
      return;
    }
    const heldStill = restStamp(look.node) === waited.stamp;
    const isTooLong = this.#context.shared.clock.monotonicMs() - waited.firstMs >= REST_MAX_MS;
    if (!heldStill && !isTooLong) {
      this.#rest(path, look.node, waited, waited.firstMs);
      return;
    }
    const record = this.#context.shared.registry.get(this.#context.name, path);
    if (record?.stat.dev !== look.node.stat.dev && this.#hooks.isForeign(path, look.node.stat.dev)) return;
    if (record?.state === "live" && isAsRegistered(record, look.node)) return;
    if (!this.#isOwnWrite(path, look.node, record)) this.#settle({ path, node: look.node, record, item: waited });
  }

  #settle(change: SettledChange): void {
    const { record, node } = change;
    const isReplacement = record !== undefined && record.kind === "file" && node.kind === "file";
    if (!isReplacement || (record.state !== "live" && record.state !== "lost")) {
      this.accept(change);
      return;
    }
    this.#inspected.set(change.path, stampOf(node.stat));
    this.#hooks.inspect(change);
  }
}

/** Nothing new: as registered, or the damage that was told already. */
function isKnown(record: RegistryRecord | undefined, node: FileNode): boolean {
  if (record?.state === "live") return isAsRegistered(record, node);
  return record?.state === "lost" && record.damagedStamp === stampOf(node.stat);
}

/** Of what has no content: whether it is what is stored. */
function isSameThing({ path, node }: SettledChange, stored: FileNode | undefined): boolean {
  if (stored?.kind !== node.kind || (node.kind === "symlink" && linkTargetAt(path) !== stored.linkTarget)) return false;
  const isSameDevice = stored.device?.major === node.device?.major && stored.device?.minor === node.device?.minor;
  return isSameDevice && stored.mode === node.mode && stored.uid === node.uid && stored.gid === node.gid;
}

function linkTargetAt(path: BytePath): string | undefined {
  try {
    return reach(path, (place) => readlinkSync(place, "latin1"));
  } catch {
    return undefined; // gone, or no link any more: the next look tells
  }
}

/** Inode, size and mtime: what must hold still before content is read. */
function restStamp(node: FileNode): string {
  return `${String(node.stat.ino)}:${String(node.stat.sizeBytes)}:${String(node.stat.mtimeNs)}`;
}

/** The parts of a record that a look tells. */
function registered(node: FileNode): Pick<RegistryRecord, "kind" | "stat" | "mode" | "uid" | "gid" | "linkCount"> {
  const { kind, stat, mode, uid, gid, linkCount } = node;
  return { kind, stat, mode, uid, gid, linkCount };
}
