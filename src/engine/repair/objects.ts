/**
 * Repair of the small objects: configuration copies from each other, fragments from the packs they list, commits and
 * key slots from another copy. A damaged object is set aside as `damaged/<digest>-<key>`, never thrown away.
 */
import { basename, dirname, join } from "node:path";
import { hasCode } from "../../base/errors.js";
import { randomHex } from "../../base/ids.js";
import type { Backend } from "../../storage/backend.js";
import { makeFoldersDurably } from "../../storage/file-io.js";
import { decodeCommit, sha256Of, type StoredCommit } from "../commit-log.js";
import { fragmentGroups, type RepositoryCore } from "../core.js";
import { type ChunkHolder, holderObjectKey } from "../index/chunk-index.js";
import { decodeFragment, type IndexedPack } from "../index/fragments.js";
import type { LevelOperation } from "../index/level-store.js";
import type { PackKind } from "../pack/format.js";
import { objectSource, readPackDirectory, scanEntries } from "../pack/reader.js";
import { salvaging } from "../pack/salvage.js";
import { UNREAD_SUFFIX } from "../wal/segment.js";
import { decodeDigested } from "../digested-json.js";
import { suspectUnfound } from "../suspects.js";
import { stillUnread } from "../unread.js";
import { isDamage } from "./lost.js";

export interface ObjectRepair {
  readonly core: RepositoryCore;
  readonly copy: Backend | undefined;
  /** False: only tell what could be repaired. */
  readonly writes: boolean;
  readonly signal: AbortSignal;
}

/** Says whether an object's bytes are what they should be. */
type Proof = (key: string, bytes: Buffer) => boolean;

/** Repairs what can be repaired; gives the keys of the objects that were. */
export async function repairObjects(repair: ObjectRepair): Promise<string[]> {
  return [
    ...(await repairConfig(repair)),
    ...(await repairKeySlots(repair)),
    ...(await repairCommits(repair)),
    ...(await repairFragments(repair)),
    ...(await repairSegments(repair)),
  ];
}

/** Each copy of the configuration is the same bytes as the other. */
async function repairConfig(repair: ObjectRepair): Promise<string[]> {
  const keys = ["config/1", "config/2"];
  const isWhole: Proof = (_key, bytes) => decodeDigested(bytes) !== undefined;
  const copies = await Promise.all(keys.map((key) => bytesOf(repair.core.parts.backend, key, repair.signal)));
  const good = copies.find((bytes) => bytes !== undefined && isWhole("", bytes));
  if (good === undefined) return [];
  const repaired: string[] = [];
  for (const [index, key] of keys.entries()) {
    const bytes = copies[index];
    if (bytes !== undefined && isWhole(key, bytes)) continue;
    await replace(repair, key, { damaged: bytes, good });
    repaired.push(key);
  }
  return repaired;
}

/** Key slots that the copy has whole and the store has damaged. One that is not here was removed by a person. */
async function repairKeySlots(repair: ObjectRepair): Promise<string[]> {
  const { core, copy, signal } = repair;
  const repaired: string[] = [];
  if (copy === undefined) return repaired;
  const isWhole: Proof = (key, bytes) => key === `keys/${sha256Of(bytes)}`;
  for await (const { key } of copy.list("keys/", signal)) {
    const damaged = await bytesOf(core.parts.backend, key, signal);
    if (damaged === undefined || isWhole(key, damaged)) continue;
    const good = await bytesOf(copy, key, signal);
    if (good === undefined || !isWhole(key, good)) continue;
    await replace(repair, key, { damaged, good });
    repaired.push(key);
  }
  return repaired;
}

/** True when something that was not taken in can be read by now: the next start takes it in. */
export async function readsAgain(core: RepositoryCore, signal: AbortSignal): Promise<boolean> {
  const { backend } = core.parts;
  for (const key of await stillUnread(core, signal)) {
    try {
      const bytes = await backend.get(key, signal);
      if (!key.startsWith("commits/") || openedCommit(core, key, bytes) !== undefined) return true;
    } catch (error) {
      if (!hasCode(error, "STORE_IO") && !hasCode(error, "OBJECT_MISSING")) throw error;
    }
  }
  return false;
}

/** Commits that the copy has whole and the store has not, or not whole; those that a base stands in for stay away. */
async function repairCommits(repair: ObjectRepair): Promise<string[]> {
  const { core, copy, signal } = repair;
  if (copy === undefined) return [];
  const here = await wholeCommits(core, core.parts.backend, signal);
  const there = await wholeCommits(core, copy, signal);
  const retired = new Set([...here.retired, ...there.retired]);
  const present = new Set(here.keys);
  const lost = there.keys.filter((key) => !present.has(key) && !retired.has(key));
  if (!repair.writes || lost.length === 0) return lost;
  await core.parts.catalog.markStale();
  for (const key of lost) {
    const good = await copy.get(key, signal);
    await replace(repair, key, { damaged: await bytesOf(core.parts.backend, key, signal), good });
    const commit = openedCommit(core, key, good);
    if (commit !== undefined) goBehind(core, commit);
  }
  return lost;
}

/** The commits of a store that can be read, and those that its bases stand in for. */
async function wholeCommits(
  core: RepositoryCore,
  store: Backend,
  signal: AbortSignal,
): Promise<{ readonly keys: string[]; readonly retired: string[] }> {
  const keys: string[] = [];
  const retired: string[] = [];
  for await (const { key } of store.list("commits/", signal)) {
    const bytes = await bytesOf(store, key, signal);
    const commit = bytes === undefined ? undefined : openedCommit(core, key, bytes);
    if (commit === undefined) continue;
    keys.push(key);
    const { body } = commit.header;
    if (body.kind === "base") retired.push(...body.retires);
  }
  return { keys, retired };
}

/** What is committed from now on follows what came back. */
function goBehind(core: RepositoryCore, commit: StoredCommit): void {
  const { number, writer, seq, body } = commit.header;
  core.sawSeq(body.kind === "deltas" ? Math.max(number, body.lastSeq) : number);
  if (writer === core.parts.writerId) core.writeSide().commits.follow({ seq, sha256: commit.sha256 });
}

function openedCommit(core: RepositoryCore, key: string, bytes: Buffer): StoredCommit | undefined {
  try {
    const commit = decodeCommit(core.parts.opener, key, bytes);
    for (const _delta of commit.deltas()) continue;
    return commit;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return undefined;
  }
}

/**
 * Sealed segments of logs that were kept because they did not read. One that reads by now becomes a log of its own, which
 * the next start takes in: it may hold commits that were not known when the rest was sealed.
 */
async function repairSegments({ core, writes, signal }: ObjectRepair): Promise<string[]> {
  const { backend, io, unread } = core.parts;
  const repaired: string[] = [];
  const keys: string[] = [];
  for await (const { key } of backend.list("wal/", signal)) if (key.endsWith(UNREAD_SUFFIX)) keys.push(key);
  for (const key of keys) {
    try {
      await backend.get(key, signal);
    } catch (error) {
      if (!hasCode(error, "STORE_IO")) throw error;
      continue;
    }
    repaired.push(key);
    if (!writes) continue;
    const walRoot = dirname(dirname(core.writeSide().wal.segmentPath(0)));
    const name = basename(key, UNREAD_SUFFIX);
    const folder = join(walRoot, randomHex(8));
    await makeFoldersDurably(io, folder);
    await io.rename(join(dirname(walRoot), key), join(folder, name));
    await io.syncFolder(folder);
    unread.delete(key);
    unread.add(`wal/${basename(folder)}/${name}`, "the next start takes it in");
  }
  return repaired;
}

/** A fragment only repeats what its packs say: another takes its place, also for packs that none lists. */
async function repairFragments({ core, writes, signal }: ObjectRepair): Promise<string[]> {
  const { backend, catalog } = core.parts;
  const names = new Set(catalog.commits.fragments());
  for await (const { key } of backend.list("index/", signal)) names.add(key.slice("index/".length));
  const damaged: string[] = [];
  for (const name of names) {
    const bytes = await bytesOf(backend, `index/${name}`, signal);
    if (bytes !== undefined && isFragment(core, name, bytes)) continue;
    damaged.push(name);
    if (!writes) continue;
    await core.maintenance.run(async () => {
      await relist(core, name, signal);
      if (bytes !== undefined) await setAside(core, `index/${name}`, bytes, signal);
    }, signal);
  }
  if (writes && damaged.length > 0) await core.maintenance.run(() => relist(core, NOT_LISTED, signal), signal);
  return damaged.map((name) => `index/${name}`);
}

/** The fragment of holders that were found without one. */
const NOT_LISTED = "";

/** Lists the packs of a fragment anew. One that is gone is listed no more; its chunks are lost or lie elsewhere. */
async function relist(core: RepositoryCore, name: string, signal: AbortSignal): Promise<void> {
  const { catalog } = core.parts;
  const packs: IndexedPack[] = [];
  const operations: LevelOperation[] = [];
  for (const holder of [...catalog.chunks.holders()]) {
    if (holder.kind === "w" || holder.fragment !== name) continue;
    const pack = await indexedPack(core, { ...holder, kind: holder.kind }, signal);
    if (pack === undefined) catalog.chunks.putHolder(operations, { ...holder, fragment: NOT_LISTED });
    else packs.push(pack);
  }
  for (const group of fragmentGroups(packs)) {
    await core.storeFragment(group, name === NOT_LISTED ? [] : [name], signal);
  }
  catalog.commits.dropFragment(operations, name);
  await catalog.write(operations);
}

async function indexedPack(
  core: RepositoryCore,
  holder: ChunkHolder & { readonly kind: PackKind },
  signal: AbortSignal,
): Promise<IndexedPack | undefined> {
  const { backend, opener } = core.parts;
  const source = objectSource(backend, holderObjectKey(holder), holder.sizeBytes);
  const { kind, name: sha256, sizeBytes } = holder;
  try {
    return { kind, sha256, sizeBytes, entries: (await readPackDirectory(source, opener, signal)).entries };
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING")) return undefined;
    if (!isDamage(error)) throw error;
    const entries = await scanEntries(source, opener, signal);
    await suspectUnfound(core, holder, entries);
    return { kind, sha256, sizeBytes, entries };
  }
}

function isFragment(core: RepositoryCore, name: string, bytes: Buffer): boolean {
  try {
    decodeFragment(core.parts.opener.open(bytes).plain);
    return sha256Of(bytes) === name;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return false;
  }
}

async function replace(
  { core, writes, signal }: ObjectRepair,
  key: string,
  { damaged, good }: { readonly damaged: Buffer | undefined; readonly good: Buffer },
): Promise<void> {
  if (!writes) return;
  if (damaged !== undefined) await setAside(core, key, damaged, signal);
  await core.parts.backend.put(key, good, signal);
}

/** Keeps a damaged object under another name and frees its key. Cut short in between, it is only there twice. */
async function setAside(core: RepositoryCore, key: string, bytes: Buffer, signal: AbortSignal): Promise<void> {
  const { backend } = core.parts;
  await backend.put(`damaged/${sha256Of(bytes).slice(0, 16)}-${key.replaceAll("/", ".")}`, bytes, signal);
  await backend.delete(key, signal);
  core.log.warn("repair.set_aside", { key });
}

/** An object with zeros where it does not read; undefined when there is none. Throws STORE_IO when too much does not. */
async function bytesOf(backend: Backend, key: string, signal: AbortSignal): Promise<Buffer | undefined> {
  try {
    return await backend.get(key, signal);
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING")) return undefined;
    if (!hasCode(error, "STORE_IO")) throw error;
    const info = await backend.stat(key, signal);
    if (info === undefined) return undefined;
    const source = salvaging(objectSource(backend, key, info.sizeBytes));
    return await source.read(0, info.sizeBytes, signal);
  }
}
