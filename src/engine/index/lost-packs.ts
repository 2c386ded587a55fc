/**
 * What a catalog that is made again or caught up must know of damage: packs that are gone, with what parity still tells
 * of those that nothing else lists, and packs in which something was found damaged before (`suspect-packs.ts`). Places
 * in them are suspect from the start: read when nothing better is there, never relied upon for new data.
 */
import { HoldfastError, messageOf } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import { provePack } from "../pack/prove.js";
import { readPackDirectory } from "../pack/reader.js";
import type { RecordOpener } from "../pack/record.js";
import { type ByteSource, objectSource } from "../pack/source.js";
import type { ParityMember } from "../parity/format.js";
import type { ParityStore } from "../parity/group-store.js";
import type { ChunkId } from "../types.js";
import type { Catalog } from "./catalog.js";
import { type ChunkHolder, holderObjectKey } from "./chunk-index.js";
import { collectedKeys } from "./epochs.js";
import type { LevelOperation } from "./level-store.js";
import type { ChunkLocation } from "./locations.js";
import { type MarkedPack, storedMarks } from "./suspect-packs.js";

export interface LostPacksContext {
  readonly backend: Backend;
  readonly opener: RecordOpener;
  readonly catalog: Catalog;
  readonly parity: ParityStore;
  readonly log: Logger;
}

/** Marked packs that are read anew at one start, 32 MiB each; of what is beyond, nothing is relied upon until a check. */
const PROVEN_MAX = 100;

/** Which chunks of a pack can be relied upon. */
type Judge = (id: ChunkId) => boolean;

/** Packs that only parity still tells of: they were never collected, so they are lost, and parity gives what they held. */
export async function takeInLost(
  { backend, opener, catalog, parity, log }: LostPacksContext,
  present: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  const members = await parity.membersByKey(signal);
  const isUnknown = ([key, { kind, sha256 }]: readonly [string, ParityMember]): boolean =>
    !present.has(key) && catalog.chunks.holderNamed(kind, sha256) === undefined;
  const unknown = [...members].filter(isUnknown);
  const collected = unknown.length === 0 ? new Set<string>() : await collectedKeys(backend, signal);
  for (const [key, member] of unknown) {
    if (collected.has(key)) continue;
    try {
      const { entries } = await readPackDirectory(paritySource(parity, member), opener, signal);
      const operations: LevelOperation[] = [];
      catalog.chunks.putPack(operations, { ...member, entries }, "", { trust: "suspect" });
      await catalog.write(operations);
      log.error("pack.lost", { pack: member.sha256, records: entries.length });
    } catch (error) {
      if (!isDamage(error)) throw error;
      log.error("pack.lost", { pack: member.sha256, reason: messageOf(error) });
    }
  }
}

/** A lost pack, made out of the others of its group. Throws OBJECT_DAMAGED where that cannot be. */
function paritySource(parity: ParityStore, member: ParityMember): ByteSource {
  return {
    sizeBytes: member.sizeBytes,
    read: async (offsetBytes, lengthBytes, signal) => {
      const bytes = await parity.range(member, { offsetBytes, lengthBytes }, signal);
      if (bytes !== undefined) return bytes;
      throw new HoldfastError("OBJECT_DAMAGED", `too much is lost beside the pack ${member.sha256}`);
    },
  };
}

/** Relies upon nothing in packs that are listed and not there. */
export async function suspectLost({ catalog, log }: LostPacksContext, present: ReadonlySet<string>): Promise<void> {
  const judges = new Map<number, Judge>();
  for (const holder of catalog.chunks.holders()) {
    if (holder.kind === "w" || present.has(holderObjectKey(holder))) continue;
    judges.set(holder.number, () => false);
    log.error("pack.missing", { pack: holder.name });
  }
  await suspectPlaces(catalog, judges);
}

/** Takes in the marks that this catalog does not know of: their packs are read, and what of them is damaged is known again. */
export async function takeInMarks(context: LostPacksContext, signal: AbortSignal): Promise<void> {
  const { backend, catalog, log } = context;
  const judges = new Map<number, Judge>();
  const taken: MarkedPack[] = [];
  for await (const pack of storedMarks(backend, signal)) {
    const holder = catalog.chunks.holderNamed(pack.kind, pack.name);
    if (holder === undefined || catalog.suspects.has(pack)) continue;
    log.info("pack.suspect", { pack: pack.name });
    judges.set(holder.number, taken.length < PROVEN_MAX ? await judgeOf(context, holder, signal) : () => false);
    taken.push(pack);
  }
  await suspectPlaces(catalog, judges);
  const operations: LevelOperation[] = [];
  for (const pack of taken) catalog.suspects.put(operations, pack);
  await catalog.write(operations);
}

async function judgeOf(
  { backend, opener }: LostPacksContext,
  holder: ChunkHolder,
  signal: AbortSignal,
): Promise<Judge> {
  try {
    const source = objectSource(backend, holderObjectKey(holder), holder.sizeBytes);
    const { entries, damaged } = await provePack(source, holder.name, opener, signal);
    const good = new Set(entries.flatMap(({ id, inner }) => inner?.map((chunk) => chunk.id) ?? [id]));
    for (const id of damaged) good.delete(id);
    return (id) => good.has(id);
  } catch (error) {
    if (!isDamage(error)) throw error;
    return () => false;
  }
}

async function suspectPlaces(catalog: Catalog, judges: ReadonlyMap<number, Judge>): Promise<void> {
  if (judges.size === 0) return;
  for await (const page of catalog.chunks.all()) {
    const operations: LevelOperation[] = [];
    for (const { id, locations } of page) {
      const isBad = ({ pack }: ChunkLocation): boolean => judges.get(pack)?.(id) === false;
      if (locations.some(isBad)) catalog.chunks.markSuspect(operations, id, isBad);
    }
    await catalog.write(operations);
  }
}

/** What damage looks like, a disk that does not read included; anything else ends the start. */
function isDamage(error: unknown): boolean {
  const codes = ["RECORD_DAMAGED", "OBJECT_DAMAGED", "OBJECT_MISSING", "STORE_IO"];
  return error instanceof HoldfastError && codes.includes(error.code);
}
