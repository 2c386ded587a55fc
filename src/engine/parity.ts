/**
 * Parity over groups of packs: so many packs together get so many parity objects, and any that many of a group may be
 * lost or damaged and come back (`repair`, and reads do it at once). Groups are made of what has none, largest packs
 * first, so that packs of one size share a group; the last, smaller group is made anew when more packs come. A group
 * that lost a pack to a garbage collection stays until its packs have new parity, so nothing is ever without.
 */
import { createHash } from "node:crypto";
import { HoldfastError, hasCode } from "../base/errors.js";
import type { RepositoryCore } from "./core.js";
import { packKey } from "./pack/format.js";
import type { ParityMember } from "./parity/format.js";
import { PARITY_PREFIX, type StoredGroup } from "./parity/group-store.js";
import { writeGroup } from "./parity/group-writer.js";
import { SHARDS_MAX } from "./parity/reed-solomon.js";
import type { Repository } from "./repository.js";

/** How much parity is kept: `parityPacks` more for every `dataPacks` packs. */
export interface ParityLayout {
  /** 1 to 200. */
  readonly dataPacks: number;
  /** 1 to 50: how many of a group may be lost at once. */
  readonly parityPacks: number;
}

export interface ParityReport {
  readonly groupsWritten: number;
  readonly groupsRemoved: number;
  readonly bytesWritten: number;
  /** Packs that could get no parity because they are not what their names say; `check` and `repair` deal with them. */
  readonly packsDamaged: number;
}

/** Brings parity up to the packs that are there. Throws USAGE for a layout that cannot be, STORE_FULL, STORE_IO. */
export async function writeParity(
  repository: Repository,
  layout: ParityLayout,
  signal: AbortSignal,
): Promise<ParityReport> {
  const { core } = repository;
  core.writeSide();
  return await core.longWork.run(() => maintainParity(core, layout, signal), signal);
}

/** As `writeParity`, for one who holds the lock on long work. */
export async function maintainParity(
  core: RepositoryCore,
  layout: ParityLayout,
  signal: AbortSignal,
): Promise<ParityReport> {
  checkLayout(layout);
  const packs = new Map<string, ParityMember>();
  for (const { kind, name: sha256, sizeBytes } of core.parts.catalog.chunks.holders()) {
    if (kind !== "w") packs.set(packKey(kind, sha256), { kind, sha256, sizeBytes });
  }
  const groups = await core.parts.parity.groups(signal);
  await dropUnreadable(core, groups, signal);
  const kept = keptGroups(groups, packs, layout);
  for (const { members } of kept) for (const { kind, sha256 } of members) packs.delete(packKey(kind, sha256));
  const written = await writeGroups(core, { waiting: [...packs.values()], layout }, signal);
  // Only now: until here the old parity was still good for what is left of its packs. That of a damaged or lost pack stays.
  const removed = groups.filter((group) => !kept.includes(group) && !group.members.some(isUncovered(packs, written)));
  const keptKeys = new Set(kept.flatMap((group) => group.keys));
  core.assertMine();
  for (const key of removed.flatMap((group) => group.keys))
    if (key !== undefined && !keptKeys.has(key) && !written.keys.has(key)) await core.parts.backend.delete(key, signal);
  core.parts.parity.refresh();
  const { groupsWritten, bytesWritten, packsDamaged } = written;
  return { groupsWritten, groupsRemoved: removed.length, bytesWritten, packsDamaged };
}

/**
 * Objects that belong to no group because they are damaged: they would stand in the way of those made again. One that is
 * what its name says could not be read just now, or is for a later version to read.
 */
async function dropUnreadable(
  core: RepositoryCore,
  groups: readonly StoredGroup[],
  signal: AbortSignal,
): Promise<void> {
  const readable = new Set(groups.flatMap(({ keys }) => keys));
  const unreadable: string[] = [];
  for await (const { key, sizeBytes } of core.parts.backend.list(PARITY_PREFIX, signal)) {
    if (!readable.has(key) && (await isDamaged(core, key, sizeBytes, signal))) unreadable.push(key);
  }
  await dropParity(core, unreadable, signal);
}

function checkLayout({ dataPacks, parityPacks }: ParityLayout): void {
  const isGood = dataPacks >= 1 && parityPacks >= 1 && dataPacks + parityPacks <= SHARDS_MAX;
  if (!isGood || !Number.isInteger(dataPacks) || !Number.isInteger(parityPacks))
    throw new HoldfastError("USAGE", `parity of ${String(dataPacks)}+${String(parityPacks)} packs cannot be made`);
}

/** Groups that stay: whole, of the wanted layout, all their packs there; a smaller one only while no pack is without. */
function keptGroups(
  groups: readonly StoredGroup[],
  packs: ReadonlyMap<string, ParityMember>,
  layout: ParityLayout,
): StoredGroup[] {
  const whole = groups.filter(
    ({ members, parityCount, keys }) =>
      parityCount === layout.parityPacks &&
      members.length <= layout.dataPacks &&
      !keys.includes(undefined) &&
      members.every(({ kind, sha256 }) => packs.has(packKey(kind, sha256))),
  );
  const covered = new Set<string>();
  const distinct = whole.filter(({ members }) => {
    const keys = members.map(({ kind, sha256 }) => packKey(kind, sha256));
    if (keys.some((key) => covered.has(key))) return false; // made twice, around a crash
    for (const key of keys) covered.add(key);
    return true;
  });
  const full = distinct.filter(({ members }) => members.length === layout.dataPacks);
  const smaller = distinct.filter(({ members }) => members.length < layout.dataPacks);
  return covered.size === packs.size && smaller.length <= 1 ? distinct : full;
}

/** Says of a pack that is still needed that nothing but its old parity covers it. */
function isUncovered(waiting: ReadonlyMap<string, ParityMember>, written: Written): (pack: ParityMember) => boolean {
  return ({ kind, sha256 }) => {
    const key = packKey(kind, sha256);
    return waiting.has(key) && !written.packs.has(key);
  };
}

interface Written {
  groupsWritten: number;
  bytesWritten: number;
  packsDamaged: number;
  /** Keys that are there now; an equal group may have been there before. */
  readonly keys: Set<string>;
  /** Keys of the packs that have new parity. */
  readonly packs: Set<string>;
}

async function writeGroups(
  core: RepositoryCore,
  { waiting, layout }: { readonly waiting: readonly ParityMember[]; readonly layout: ParityLayout },
  signal: AbortSignal,
): Promise<Written> {
  const { backend, io, keys } = core.parts;
  const written: Written = { groupsWritten: 0, bytesWritten: 0, packsDamaged: 0, keys: new Set(), packs: new Set() };
  let left = [...waiting].sort((a, b) => b.sizeBytes - a.sizeBytes || (a.sha256 < b.sha256 ? -1 : 1));
  while (left.length > 0) {
    const members = left.slice(0, layout.dataPacks);
    const order = { members, parityCount: layout.parityPacks };
    const outcome = await writeGroup(order, { backend, io, repositoryId: keys.repositoryId, signal }).catch(
      async (error: unknown) => {
        if (!hasCode(error, "OBJECT_MISSING")) throw error;
        return { kind: "damaged" as const, members: await missing(core, members, signal) };
      },
    );
    if (outcome.kind === "damaged" && outcome.members.length > 0) {
      written.packsDamaged += outcome.members.length;
      left = left.filter((pack) => !outcome.members.includes(pack));
      core.log.warn("parity.pack_damaged", { packs: outcome.members.map(({ sha256 }) => sha256) });
      continue;
    }
    left = left.slice(members.length);
    if (outcome.kind !== "written") continue; // the pack was collected meanwhile
    written.groupsWritten += 1;
    written.bytesWritten += outcome.sizeBytes;
    for (const key of outcome.keys) written.keys.add(key);
    for (const { kind, sha256 } of members) written.packs.add(packKey(kind, sha256));
  }
  return written;
}

async function missing(
  core: RepositoryCore,
  members: readonly ParityMember[],
  signal: AbortSignal,
): Promise<ParityMember[]> {
  const gone: ParityMember[] = [];
  for (const member of members) {
    if ((await core.parts.backend.stat(packKey(member.kind, member.sha256), signal)) === undefined) gone.push(member);
  }
  return gone;
}

const READ_BYTES = 2 ** 20;

/** Keys of the parity objects that are not what their names say: all of them are read. */
export async function damagedParity(core: RepositoryCore, signal: AbortSignal): Promise<string[]> {
  const damaged: string[] = [];
  for await (const { key, sizeBytes } of core.parts.backend.list(PARITY_PREFIX, signal)) {
    if (await isDamaged(core, key, sizeBytes, signal)) damaged.push(key);
  }
  return damaged;
}

/** True when a parity object was read whole and is not what its name says. */
async function isDamaged(core: RepositoryCore, key: string, sizeBytes: number, signal: AbortSignal): Promise<boolean> {
  const hash = createHash("sha256");
  try {
    for (let offset = 0; offset < sizeBytes; offset += READ_BYTES)
      hash.update(await core.parts.backend.getRange(key, offset, READ_BYTES, signal));
  } catch (error) {
    if (!hasCode(error, "OBJECT_MISSING")) throw error;
    return false; // made anew beside us
  }
  return hash.digest("hex") !== key.slice(PARITY_PREFIX.length);
}

/** Removes parity objects that are damaged: they hold nothing but what packs say, and are made again. */
export async function dropParity(core: RepositoryCore, keys: readonly string[], signal: AbortSignal): Promise<void> {
  for (const key of keys) await core.parts.backend.delete(key, signal);
  core.parts.parity.refresh();
}
