/**
 * Making a repository, and opening one: lock, keys, catalog, then what a crash left behind - an interrupted garbage
 * collection is ended, logs are replayed, another writer's log is sealed. After a kill at any moment this is all it takes.
 */
import { randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { writeFileDurably } from "../base/atomic-file.js";
import { isoTime } from "../base/clock.js";
import { HoldfastError, errnoOf, hasCode } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { ResourceStack } from "../base/lifecycle.js";
import type { Backend } from "../storage/backend.js";
import { type FileIo, systemIo } from "../storage/file-io.js";
import { clearStaging, localFolderOf, openBackend } from "../storage/open.js";
import { storeError } from "../storage/store-error.js";
import { CommitAppender, commitKey, digestOfCommit } from "./commit-log.js";
import { ContentReader } from "./content.js";
import { RepositoryCore, type WriteSide } from "./core.js";
import { Catalog } from "./index/catalog.js";
import { type CatchUpContext, catchUp, reasonToRebuild, takeInFragments } from "./index/catch-up.js";
import { finishInterrupted, newestEpoch } from "./index/epochs.js";
import {
  type KeyRing,
  type RepositoryKeys,
  addSlot,
  deriveKeys,
  newKeyBytes,
  newMasterKey,
  newRecoveryKey,
  unlockMasters,
} from "./keys.js";
import { fenceWriters } from "./lease/fence.js";
import { lockStore } from "./lease/store-lock.js";
import { WriterLease } from "./lease/writer-lease.js";
import type { LevelOperation } from "./index/level-store.js";
import { RecordOpener } from "./pack/record.js";
import { ParityStore } from "./parity/group-store.js";
import { type RepositoryConfig, newConfig, readConfig, writeConfig } from "./repository-config.js";
import type { InitOptions, InitResult, OpenOptions } from "./repository-types.js";
import { readingTimeMs } from "./rot.js";
import { sealSegments } from "./seal.js";
import { type Delta, type DeltaChange, decodeDelta, encodeDelta } from "./tree/delta.js";
import type { LoadNode } from "./tree/reader.js";
import {
  LOG_START,
  type ReplayedCommit,
  type WalPosition,
  type WalReplay,
  WriteAheadLog,
  replayLog,
} from "./wal/log.js";
import { UNREAD_NUMBERS, UnreadObjects } from "./index/unread-objects.js";
import { UNREAD_SUFFIX, removeSegments } from "./wal/segment.js";
import { WalTail } from "./wal-tail.js";
import { ChunkSet } from "./workers/chunk-set.js";
import { WorkerPool } from "./workers/pool.js";

/** Makes a repository in an empty or missing place; in another nothing is changed. Throws REPO_EXISTS, REPO_NOT_EMPTY. */
export async function initRepository(options: InitOptions): Promise<InitResult> {
  const signal = new AbortController().signal;
  const io = options.io ?? systemIo;
  await refuseOccupied(options.storeUrl, io, signal);
  await options.onFree?.();
  await using backend = await openBackend(options.storeUrl, { create: true, io });
  const idBytes = randomBytes(32);
  const repositoryId = idBytes.toString("hex");
  const secrets = options.encrypt ? await makeSlots(backend, idBytes, options, signal) : {};
  // The configuration comes last: with its first copy the place is a repository.
  await writeConfig(backend, newConfig(repositoryId, options.encrypt, isoTime(options.clock.nowMs())), signal);
  return { repositoryId, ...secrets };
}

async function refuseOccupied(storeUrl: string, io: FileIo, signal: AbortSignal): Promise<void> {
  try {
    await using backend = await openBackend(storeUrl, { io });
    for await (const { key } of backend.list("", signal)) {
      if (key.startsWith("config/")) throw new HoldfastError("REPO_EXISTS", `a repository exists at ${backend.url}`);
      // Key slots of an `init` that was cut short do no harm.
      if (!key.startsWith("keys/")) throw new HoldfastError("REPO_NOT_EMPTY", `${backend.url} is not empty`);
    }
  } catch (error) {
    if (!hasCode(error, "REPO_NOT_FOUND")) throw error; // there is no folder yet
  }
}

async function makeSlots(
  backend: Backend,
  repositoryId: Buffer,
  options: InitOptions,
  signal: AbortSignal,
): Promise<Omit<InitResult, "repositoryId">> {
  const masters = [newMasterKey()];
  const createdMs = options.clock.nowMs();
  const { password, keyService } = options;
  const isGiven = password !== undefined || keyService !== undefined || options.keyBytes !== undefined;
  const madeKey = isGiven ? undefined : newKeyBytes();
  const unlock =
    keyService !== undefined
      ? { keyService }
      : password !== undefined
        ? { password }
        : { keyBytes: options.keyBytes ?? madeKey ?? Buffer.alloc(0) };
  const { passwordKdf } = options;
  await addSlot(backend, repositoryId, { masters, unlock, createdMs, passwordKdf }, signal);
  const recoveryKey = newRecoveryKey();
  await addSlot(backend, repositoryId, { masters, unlock: { recoveryKey }, createdMs }, signal);
  return { recoveryKey, ...(madeKey === undefined ? {} : { keyBytes: madeKey }) };
}

/** An open repository's core; everything it owns is in `owned`, to be closed in reverse order. */
export interface OpenedCore {
  readonly core: RepositoryCore;
  readonly owned: ResourceStack;
}

/** A reader begins anew at most so often when the writer moved what it was about to read. */
const READER_STARTS_MAX = 20;

/** Opens a repository. Throws REPO_NOT_FOUND, REPO_LOCKED, INDEX_LOCKED, REPO_KEY_WRONG, REPO_KEY_MISSING. */
export async function openCore(options: OpenOptions): Promise<OpenedCore> {
  for (let starts = 1; ; starts += 1) {
    const mayBeginAnew = options.readOnly === true && starts < READER_STARTS_MAX;
    try {
      const { core, owned } = await openOnce(options);
      await using stack = owned;
      if (!mayBeginAnew || !(await lacksWhatMoved(core, options.signal))) return { core, owned: stack.move() };
    } catch (error) {
      // It was listed and then collected, or sealed: what took its place is listed now.
      if (!mayBeginAnew || !hasCode(error, "OBJECT_MISSING")) throw error;
    }
  }
}

/** True for a reader that could not take something in while a collection removed it. */
async function lacksWhatMoved({ parts }: RepositoryCore, signal: AbortSignal): Promise<boolean> {
  return parts.unread.size > 0 && (await newestEpoch(parts.backend, signal)).epoch !== parts.catalog.epoch;
}

async function openOnce(options: OpenOptions): Promise<OpenedCore> {
  await using stack = new ResourceStack();
  const { signal } = options;
  readingTimeMs(options.clock); // jumps of the wall are noticed from here on
  const io = options.io ?? systemIo;
  const backend = stack.use(await openBackend(options.storeUrl, { io }));
  const { config, damagedCopies, missingCopies } = await readConfig(backend, signal);
  if (damagedCopies.length > 0) options.observer.log.error("config.copy_damaged", { copies: damagedCopies });
  const { keys, keyRing } = await unlock(backend, config, options);
  const storeFolder = localFolderOf(options.storeUrl);
  const readOnly = options.readOnly === true;
  const writerId = await writerIdOf(options.stateDir, config.repository_id, readOnly);
  let lease: WriterLease | undefined;
  if (!readOnly) {
    stack.use(await lockStore(requireFolder(storeFolder)));
    lease = stack.use(await WriterLease.take(requireFolder(storeFolder), writerId));
    await writeConfig(backend, config, signal, missingCopies);
  }
  const chunkSet = new ChunkSet();
  const unread = new UnreadObjects(options.observer.log);
  const walRoot = join(requireFolder(storeFolder), "wal");
  const logPlace = { backend, walRoot, keys, io, unread };
  // A reader looks at the logs before the commits: what is sealed meanwhile is in both, instead of in neither. A writer
  // looks at them when others are fenced off.
  const logsBefore = readOnly ? await replayLogs(logPlace, signal) : undefined;
  const parity = new ParityStore(backend, keys.repositoryId);
  const others = lease?.others.filter((writer) => writer !== writerId) ?? [];
  const opened = await openCatalog(options, { backend, keys, config, chunkSet, parity, unread, others }, stack);
  await lease?.forgetOthers();
  if (!readOnly) await clearStaging(backend, io);
  const pool = stack.use(
    new WorkerPool({
      keys,
      storeUrl: options.storeUrl,
      stagingFolder: backend.stagingFolder,
      io,
      chunkSet,
      clock: options.clock,
      observer: options.observer,
      ...(options.workers === undefined ? {} : { workers: options.workers }),
    }),
  );
  const logs = logsBefore ?? (await replayLogs(logPlace, signal));
  const write = readOnly
    ? undefined
    : await openWriteSide({ options, backend, keys, writerId, walRoot, opened, logs, lease, stack });
  const parts = {
    backend,
    config,
    keys,
    keyRing,
    chunkSet,
    parity,
    pool,
    writerId,
    write,
    lease,
    unread,
    io,
    ...opened,
  };
  const core = new RepositoryCore({ ...parts, clock: options.clock, observer: options.observer });
  await takeInLogs(core, logs, signal);
  return { core, owned: stack.move() };
}

function requireFolder(folder: string | undefined): string {
  if (folder === undefined) throw new HoldfastError("UNSUPPORTED", "the first store must be a local folder");
  return folder;
}

async function unlock(
  backend: Backend,
  config: RepositoryConfig,
  options: OpenOptions,
): Promise<{ keys: RepositoryKeys; keyRing: KeyRing }> {
  const id = Buffer.from(config.repository_id, "hex");
  if (!config.encrypted) return { keys: deriveKeys(id, []), keyRing: { masters: [], slotId: undefined } };
  const unlocking = { ...options.unlock, onTrying: options.onUnlocking };
  const keyRing = await unlockMasters(backend, id, unlocking, options.signal);
  return { keys: deriveKeys(id, keyRing.masters), keyRing };
}

interface OpenedCatalog {
  readonly catalog: Catalog;
  readonly opener: RecordOpener;
  readonly content: ContentReader;
  readonly lastSeq: number;
}

interface CatalogParts {
  readonly backend: Backend;
  readonly keys: RepositoryKeys;
  readonly config: RepositoryConfig;
  readonly chunkSet: ChunkSet;
  readonly parity: ParityStore;
  readonly unread: UnreadObjects;
  /** Writers that may still be alive and were to end: they are fenced off before anything is read. */
  readonly others: readonly string[];
}

/** Opens the catalog and brings it up to the store, making it again when it cannot be trusted. */
async function openCatalog(options: OpenOptions, parts: CatalogParts, stack: ResourceStack): Promise<OpenedCatalog> {
  const { backend, keys, config, chunkSet, parity, unread, others } = parts;
  const { log } = options.observer;
  const folder = join(options.stateDir, "index");
  const id = config.repository_id;
  const opener = new RecordOpener(keys);
  const readOnly = options.readOnly === true;
  const epoch = readOnly
    ? (await newestEpoch(backend, options.signal)).epoch
    : await finishInterrupted(backend, log, options.signal);
  const fence = { backend, keys, nowMs: options.clock.nowMs(), log };
  const fenced = others.length === 0 ? epoch : await fenceWriters(fence, others, options.signal);
  const attempt = async (catalog: Catalog): Promise<OpenedCatalog & { rebuild: string | undefined }> => {
    await catalog.load();
    const refresh = async (signal: AbortSignal): Promise<void> => {
      await takeInFragments(context, signal);
    };
    const reading = { ...parts, opener, catalog, log, writable: !readOnly };
    const content = new ContentReader({ ...reading, refresh: readOnly ? refresh : undefined });
    const loadNode: LoadNode = (node, signal) => content.chunk(node, signal);
    const context: CatchUpContext = { backend, opener, catalog, log, parity, unread, loadNode };
    const rebuild = await reasonToRebuild(context, epoch, options.signal);
    const lastSeq = rebuild === undefined ? await catchUp(context, options.signal) : 0;
    const keyNumber = keys.olderRecordMasters.length;
    if (rebuild === undefined) await finishOpening(catalog, { epoch: fenced, keyNumber }, chunkSet);
    return { catalog, opener, content, lastSeq, rebuild };
  };
  const first = await Catalog.open(folder, id, log);
  const closer = { open: first };
  stack.defer(() => closer.open[Symbol.asyncDispose]());
  const opened = await attempt(first).catch((error: unknown) => {
    if (!hasCode(error, "INDEX_DAMAGED")) throw error;
    return error;
  });
  if ("catalog" in opened && opened.rebuild === undefined) return opened;
  log.warn("index.rebuild", { reason: "catalog" in opened ? opened.rebuild : opened.message });
  await first[Symbol.asyncDispose]();
  closer.open = await Catalog.recreate(folder, id);
  return await attempt(closer.open);
}

/** Notes the collection that the catalog has caught up with and the key that opened it, and fills the dedup table. */
async function finishOpening(
  catalog: Catalog,
  { epoch, keyNumber }: { readonly epoch: number; readonly keyNumber: number },
  chunkSet: ChunkSet,
): Promise<void> {
  const operations: LevelOperation[] = [];
  catalog.putEpoch(operations, epoch);
  catalog.putKeyNumber(operations, keyNumber);
  await catalog.write(operations);
  await catalog.chunks.fill(chunkSet);
}

/** This writer's own id: made once for each state folder and repository. */
async function writerIdOf(stateDir: string, repositoryId: string, readOnly: boolean): Promise<string> {
  const path = join(stateDir, `writer-${repositoryId.slice(0, 16)}`);
  try {
    const text = (await readFile(path, "utf8")).trim();
    if (/^[0-9a-f]{16}$/.test(text)) return text;
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw storeError(error, `reading ${path}`);
  }
  const made = randomHex(8);
  if (readOnly) return made;
  try {
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    await writeFileDurably(path, `${made}\n`);
  } catch (error) {
    throw storeError(error, `writing ${path}`);
  }
  return made;
}

/** A log found in the store, replayed into memory (bounded by the size at which logs are sealed). */
interface FoundLog {
  readonly writer: string;
  readonly folder: string;
  readonly replay: WalReplay;
  readonly commits: readonly ReplayedCommit[];
}

interface LogPlace {
  readonly backend: Backend;
  readonly walRoot: string;
  readonly keys: RepositoryKeys;
  readonly io: FileIo;
  readonly unread: UnreadObjects;
}

async function replayLogs({ backend, walRoot, keys, io, unread }: LogPlace, signal: AbortSignal): Promise<FoundLog[]> {
  const writers = new Set<string>();
  for await (const { key } of backend.list("wal/", signal)) {
    const writer = key.split("/")[1];
    if (writer !== undefined) writers.add(writer);
    if (key.endsWith(UNREAD_SUFFIX)) unread.add(key, "it did not read when the rest of its log was sealed");
  }
  const logs: FoundLog[] = [];
  for (const writer of writers) {
    const folder = join(walRoot, writer);
    const commits: ReplayedCommit[] = [];
    const replay = await replayLog({ folder, keys, io }, (commit) => void commits.push(commit), signal);
    for (const { path } of replay.segments.filter(({ isUnread }) => isUnread === true)) {
      unread.add(`wal/${writer}/${basename(path)}`, "places of it do not read");
    }
    logs.push({ writer, folder, replay, commits });
  }
  return logs;
}

interface WriteContext {
  readonly options: OpenOptions;
  readonly backend: Backend;
  readonly keys: RepositoryKeys;
  readonly writerId: string;
  readonly walRoot: string;
  readonly opened: OpenedCatalog;
  readonly logs: readonly FoundLog[];
  readonly lease: WriterLease | undefined;
  readonly stack: ResourceStack;
}

async function openWriteSide(context: WriteContext): Promise<WriteSide> {
  const { options, backend, keys, writerId, walRoot, logs, lease, stack } = context;
  const own = logs.find(({ writer }) => writer === writerId);
  const folder = join(walRoot, writerId);
  const segments = own?.replay.segments ?? [];
  const position = logPosition(context.opened.catalog, writerId, own);
  const wal = stack.use(
    new WriteAheadLog(
      {
        ...{ folder, keys, observer: options.observer, segments, io: options.io ?? systemIo },
        assertMine: () => lease?.assertHeld(),
      },
      position,
    ),
  );
  const last = await lastCommitOf(backend, context.opened.catalog, writerId, options.signal);
  return { wal, commits: new CommitAppender(backend, keys, writerId, last) };
}

/** Where our log goes on: after its last frame, or where it was when its last segment was sealed. */
function logPosition(catalog: Catalog, writerId: string, own: FoundLog | undefined): WalPosition {
  if (own !== undefined && own.commits.length > 0) return own.replay.end;
  let sealed = LOG_START;
  for (const { writer, logEnd } of catalog.commits.applied()) {
    if (writer === writerId && logEnd !== undefined && logEnd.nextSeq >= sealed.nextSeq) sealed = logEnd;
  }
  return { ...sealed, nextSegment: Math.max(sealed.nextSegment, own?.replay.end.nextSegment ?? 1) };
}

/** The writer's newest commit object, even one that the catalog could not take in because it is damaged. */
async function lastCommitOf(
  backend: Backend,
  catalog: Catalog,
  writer: string,
  signal: AbortSignal,
): Promise<{ seq: number; sha256: string } | undefined> {
  let seq = 0;
  for await (const { key } of backend.list(`commits/${writer}/`, signal)) {
    seq = Math.max(seq, Number(key.slice(key.lastIndexOf("/") + 1)));
  }
  if (seq === 0) return undefined;
  const key = commitKey(writer, seq);
  for (const applied of catalog.commits.applied()) if (applied.key === key) return applied;
  return { seq, sha256: await digestOfCommit(backend, key, signal) };
}

/** Brings replayed commits into the catalog; another writer's log is sealed and removed when we may write. */
async function takeInLogs(core: RepositoryCore, logs: readonly FoundLog[], signal: AbortSignal): Promise<void> {
  const { entries, commits: known } = core.parts.catalog;
  const coveredSeq = known.backups().reduce((most, { coversSeq }) => Math.max(most, coversSeq), 0);
  for (const { writer, replay, commits } of logs) {
    for (const damage of replay.damage) core.log.error("wal.damaged", { writer, ...damage });
    const certain = replay.damage.filter((damage) => damage.certain);
    core.logDamage.push(...certain);
    // What was lost may have the next numbers.
    if (certain.length > 0) core.sawSeq(core.lastSeq + UNREAD_NUMBERS);
    // The index may know what does not read now, and a backup may have been made while something did not.
    let isTreeUnsure = certain.length > 0;
    const isOwn = writer === core.parts.writerId;
    const tail = isOwn ? core.tail : new WalTail();
    const paths = new Map(replay.segments.map(({ segment, path }) => [segment, path]));
    const segmentPath = (segment: number): string => paths.get(segment) ?? "";
    for (const commit of commits) {
      const { payload, delta } = wholeChanges(core, commit);
      core.sawSeq(delta.seq);
      await core.applyLogCommit({ writer, tail, segmentPath }, { ...commit, payload }, delta);
      isTreeUnsure ||= delta.seq <= coveredSeq;
    }
    if (isTreeUnsure) entries.changedThrough(core.lastSeq);
    if (isOwn || core.parts.write === undefined) continue;
    const removeThrough = async (last: number, unread: ReadonlySet<number>): Promise<void> => {
      const through = replay.segments.filter(({ segment }) => segment <= last);
      await removeSegments(core.parts.io, through, unread);
    };
    await core.maintenance.run(
      () => sealSegments(core, { writer, tail, removeThrough }, tail.segments(), signal),
      signal,
    );
    if (replay.damage.length === 0) await removeSegments(core.parts.io, replay.segments);
  }
}

/**
 * What a replayed commit may change. When a write was torn, a frame can be there without its chunks: such a change must
 * not hide the last good version behind content that does not exist. That holds also when the log went on behind it
 * after a start that had dropped it, and for damage: what is dropped looks changed to the next backup, which reads it
 * again.
 */
function wholeChanges(core: RepositoryCore, commit: ReplayedCommit): { payload: Uint8Array; delta: Delta } {
  const delta = decodeDelta(commit.payload);
  if (commit.complete) return { payload: commit.payload, delta };
  const { chunkSet, writerId } = core.parts;
  const own = new Set(commit.records.flatMap(({ id, inner }) => inner?.map((chunk) => chunk.id) ?? [id]));
  const isWhole = (change: DeltaChange): boolean =>
    change.kind === "remove" ||
    (change.state.node.chunks ?? []).every(({ id }) => own.has(id) || chunkSet.isDurable(id));
  const kept = { ...delta, changes: delta.changes.filter(isWhole) };
  const dropped = delta.changes.length - kept.changes.length;
  core.log.warn("wal.torn_commit", { writer: writerId, commit: commit.seq, dropped });
  return { payload: encodeDelta(kept), delta: kept };
}
