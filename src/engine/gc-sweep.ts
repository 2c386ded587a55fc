/**
 * Sweeping: which packs hold nothing that is needed, which are worth writing anew, and doing it - new packs first, then
 * fragments that take the place of the old ones, then the plan, the catalog, and last the deletions.
 */
import { HoldfastError, hasCode } from "../base/errors.js";
import type { RepositoryCore } from "./core.js";
import { fragmentGroups } from "./core.js";
import type { Marks } from "./gc-mark.js";
import { type ChunkHolder, holderObjectKey } from "./index/chunk-index.js";
import { type CollectionPlan, carryOut, writePlan } from "./index/epochs.js";
import { type IndexedPack, decodeFragment } from "./index/fragments.js";
import type { LevelOperation } from "./index/level-store.js";
import type { ChunkLocation } from "./index/locations.js";
import { encodeBundle } from "./pack/bundle.js";
import type { FinishedPack, PackEntry, PackKind } from "./pack/format.js";
import { chunkOfBundle, readPackDirectory, scanEntries } from "./pack/reader.js";
import { RecordSealer, type SealedRecord, crcMatches } from "./pack/record.js";
import { salvaging } from "./pack/salvage.js";
import { type ByteSource, objectSource } from "./pack/source.js";
import type { PackWriter } from "./pack/writer.js";
import type { ChunkId } from "./types.js";

/** What a pack holds, in bytes of chunks before compression. */
interface Usage {
  live: number;
  dead: number;
  deadChunks: number;
  /** A chunk cannot be read here, or the pack is not what it was written as. */
  isDamaged: boolean;
  /** A needed chunk can be read neither here nor elsewhere. */
  isMissed: boolean;
}

export interface SweepPlan {
  /** Packs without a needed chunk. */
  readonly condemned: readonly ChunkHolder[];
  /** Packs of which less than `KEPT_SHARE_MIN` is needed, or that are damaged and repaired: that part is written anew. */
  readonly repacked: readonly ChunkHolder[];
  /** Chunks that go with them. */
  readonly deadChunks: number;
  /** About how many bytes of the store become free. */
  readonly freedBytes: number;
  readonly totalBytes: number;
}

/** A pack of which less than this is needed is written anew. */
const KEPT_SHARE_MIN = 0.5;
const OPERATIONS_MAX = 10_000;

/**
 * Decides, from marks and catalog, what goes; only packs of `among` when it is given. A chunk counts where it would be
 * read: at its first good place.
 */
export async function planSweep(core: RepositoryCore, marks: Marks, among?: SweepPlan): Promise<SweepPlan> {
  const { chunks } = core.parts.catalog;
  const usages = new Map<number, Usage>();
  let found = 0;
  for await (const page of chunks.all()) {
    for (const { id, locations } of page) {
      const isNeeded = marks.has(id);
      countPlaces(usages, locations, isNeeded);
      if (isNeeded) found += 1;
    }
  }
  const candidates = among === undefined ? [...chunks.holders()] : [...among.condemned, ...among.repacked];
  for (const { kind, name, number } of candidates) {
    const usage = usages.get(number);
    if (usage !== undefined && kind !== "w" && core.parts.catalog.suspects.has({ kind, name })) usage.isDamaged = true;
  }
  // A needed chunk that no list has may lie where a damaged pack could not be read.
  const isLacking = found < marks.size;
  const plan = sumUp(isLacking ? candidates.filter(({ number }) => isWhole(usages.get(number))) : candidates, usages);
  return { ...plan, totalBytes: among?.totalBytes ?? plan.totalBytes };
}

function isWhole(usage: Usage | undefined): boolean {
  return usage !== undefined && !usage.isDamaged;
}

function countPlaces(usages: Map<number, Usage>, locations: readonly ChunkLocation[], isNeeded: boolean): void {
  const preferred = locations.find((location) => !location.suspect) ?? locations[0];
  for (const location of locations) {
    const usage = usages.get(location.pack) ?? { live: 0, dead: 0, deadChunks: 0, isDamaged: false, isMissed: false };
    // A chunk of length 0 does not exist, so a pack with a live chunk never looks empty.
    if (isNeeded && location === preferred) usage.live += location.lengthBytes;
    else usage.dead += location.lengthBytes;
    if (!isNeeded && location === preferred) usage.deadChunks += 1;
    if (location.suspect) usage.isDamaged = true;
    if (isNeeded && preferred?.suspect === true) usage.isMissed = true;
    usages.set(location.pack, usage);
  }
}

function sumUp(holders: readonly ChunkHolder[], usages: ReadonlyMap<number, Usage>): SweepPlan {
  const condemned: ChunkHolder[] = [];
  const repacked: ChunkHolder[] = [];
  let [deadChunks, freedBytes, totalBytes] = [0, 0, 0];
  for (const holder of holders) {
    if (holder.kind === "w") continue;
    totalBytes += holder.sizeBytes;
    const usage = usages.get(holder.number);
    const { live, dead } = usage ?? { live: 0, dead: 0 };
    const share = live === 0 ? 0 : live / (live + dead);
    // What is damaged and needed is kept as it is: a repair may still get something out of it.
    if (usage?.isMissed === true || (share >= KEPT_SHARE_MIN && usage?.isDamaged !== true)) continue;
    (live === 0 ? condemned : repacked).push(holder);
    deadChunks += usage?.deadChunks ?? 0;
    freedBytes += Math.round(holder.sizeBytes * (1 - share));
  }
  return { condemned, repacked, deadChunks, freedBytes, totalBytes };
}

/** Takes every chunk that goes out of the dedup table: no commit that begins after this relies on one of them. */
export async function forbidDedup(core: RepositoryCore, plan: SweepPlan, marks: Marks): Promise<void> {
  const going = new Set([...plan.condemned, ...plan.repacked].map(({ number }) => number));
  for await (const page of core.parts.catalog.chunks.all()) {
    for (const { id, locations } of page) {
      if (!marks.has(id) && locations.every(({ pack }) => going.has(pack))) core.parts.chunkSet.delete(id);
    }
  }
}

/**
 * Reads every needed chunk of which one copy would go because there is another: the index may not know that the other
 * is damaged. What proves damaged is known as such afterwards.
 */
export async function proveKept(
  core: RepositoryCore,
  plan: SweepPlan,
  marks: Marks,
  signal: AbortSignal,
): Promise<void> {
  const going = new Set([...plan.condemned, ...plan.repacked].map(({ number }) => number));
  for await (const page of core.parts.catalog.chunks.all()) {
    for (const { id, locations } of page) {
      const good = locations.filter(({ suspect }) => !suspect);
      if (good.length < 2 || !marks.has(id) || !good.some(({ pack }) => going.has(pack))) continue;
      signal.throwIfAborted();
      await core.parts.content.chunk(id, signal).catch((error: unknown) => {
        if (!hasCode(error, "RECORD_DAMAGED") && !hasCode(error, "CHUNK_MISSING")) throw error;
      });
    }
  }
}

/** Lets commits rely again on every chunk that is still there: a doomed one may have been saved by a commit meanwhile. */
export async function allowDedup(core: RepositoryCore): Promise<void> {
  const { catalog, chunkSet } = core.parts;
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      if (locations.some((location) => !location.suspect)) chunkSet.addDurable(id);
    }
  }
}

/** Carries a plan out. `orphans` are objects that the catalog does not know; `commits` are retired ones. */
export async function sweep(
  core: RepositoryCore,
  plan: SweepPlan,
  more: { readonly marks: Marks; readonly orphans: readonly string[]; readonly commits: readonly string[] },
  signal: AbortSignal,
): Promise<void> {
  const rewritten = await repack(core, plan.repacked, more.marks, signal);
  const copied = [...plan.condemned, ...plan.repacked.filter(({ number }) => rewritten.has(number))];
  const { marks, orphans, commits } = more;
  await letGo(core, copied, { isNeeded: (id) => marks.has(id), orphans, commits }, signal);
}

/** Lets packs go whose needed chunks are elsewhere; one whose chunks are not stays. */
export async function letGo(
  core: RepositoryCore,
  copied: readonly ChunkHolder[],
  more: {
    readonly isNeeded: (id: ChunkId) => boolean;
    readonly orphans: readonly string[];
    readonly commits: readonly string[];
  },
  signal: AbortSignal,
): Promise<void> {
  const { backend, catalog } = core.parts;
  const needed = await stillNeeded(core, copied, more.isNeeded);
  const going = copied.filter(({ number }) => !needed.has(number));
  const fragments = await replaceFragments(core, going, signal);
  const epoch = catalog.epoch + 1;
  const deletes = [
    ...fragments.map((name) => `index/${name}`),
    ...more.commits,
    ...going.map(holderObjectKey),
    ...more.orphans,
  ];
  // From the plan on there is no way back: a crash is finished by the next open, a failure by the next collection.
  core.assertMine();
  await writePlan(backend, { epoch, deletes }, signal).catch((error: unknown) => {
    if (hasCode(error, "OBJECT_EXISTS")) core.assertMine();
    throw error;
  });
  await finishPlan(core, { epoch, deletes }, signal);
}

/** Packs without which a needed chunk would have no good place: one was found damaged while the others were copied. */
async function stillNeeded(
  core: RepositoryCore,
  going: readonly ChunkHolder[],
  isNeeded: (id: ChunkId) => boolean,
): Promise<ReadonlySet<number>> {
  const numbers = new Set(going.map(({ number }) => number));
  const needed = new Set<number>();
  for await (const page of core.parts.catalog.chunks.all()) {
    for (const { id, locations } of page) {
      if (!isNeeded(id) || locations.some(({ suspect, pack }) => !suspect && !numbers.has(pack))) continue;
      for (const { pack } of locations) needed.add(pack);
    }
  }
  return needed;
}

/** Lets the catalog forget what a plan deletes, then deletes it. Harmless when repeated. */
export async function finishPlan(core: RepositoryCore, plan: CollectionPlan, signal: AbortSignal): Promise<void> {
  const { backend, catalog } = core.parts;
  const deleted = new Set(plan.deletes);
  const going = [...catalog.chunks.holders()].filter((holder) => deleted.has(holderObjectKey(holder)));
  await forgetPacks(core, going);
  const operations: LevelOperation[] = [];
  for (const key of plan.deletes) {
    if (key.startsWith("index/")) catalog.commits.dropFragment(operations, key.slice("index/".length));
    if (key.startsWith("commits/")) catalog.commits.dropCommit(operations, key);
  }
  catalog.putEpoch(operations, plan.epoch);
  await catalog.write(operations);
  await carryOut(backend, plan, signal);
}

// --- writing anew ----------------------------------------------------------------------------------------------------

/** Copies the needed records of sparse packs; gives the numbers of those that were copied whole. */
async function repack(
  core: RepositoryCore,
  holders: readonly ChunkHolder[],
  marks: Marks,
  signal: AbortSignal,
): Promise<Set<number>> {
  const rewritten = new Set<number>();
  for (const kind of ["d", "m"] as const) {
    await using writers = new Rewriter(core, kind);
    for (const holder of holders.filter((candidate) => candidate.kind === kind)) {
      if (await copyNeeded(core, holder, { marks, writers }, signal)) rewritten.add(holder.number);
    }
    await core.storePacks(await writers.finish(), signal);
  }
  return rewritten;
}

/** Copies what is needed of a pack; false when a record is damaged, so that the pack stays as it is. */
async function copyNeeded(
  core: RepositoryCore,
  holder: ChunkHolder,
  { marks, writers }: { readonly marks: Marks; readonly writers: Rewriter },
  signal: AbortSignal,
): Promise<boolean> {
  const { backend, catalog } = core.parts;
  const source = objectSource(backend, holderObjectKey(holder), holder.sizeBytes);
  const entries = await entriesOf(core, source, signal);
  if (entries === undefined) return false;
  const isNeededHere = (id: ChunkId): boolean =>
    marks.has(id) && catalog.chunks.locations(id)[0]?.pack === holder.number;
  for (const entry of entries) {
    signal.throwIfAborted();
    const inner = entry.inner?.filter((chunk) => isNeededHere(chunk.id));
    if (inner === undefined ? !isNeededHere(entry.id) : inner.length === 0) continue;
    const bytes = await salvaging(source).read(entry.offsetBytes, entry.recordBytes, signal);
    if (bytes.length < entry.recordBytes || !crcMatches(bytes)) {
      core.log.error("gc.record_damaged", { pack: holder.name, chunk: entry.id });
      for (const { id } of inner ?? [entry]) await markDamaged(core, id, holder);
      return false;
    }
    await writers.add(entry, bytes, inner);
  }
  return true;
}

/** Another copy of the chunk, if there is one, is the one to rely upon. */
async function markDamaged({ parts }: RepositoryCore, id: ChunkId, { number }: ChunkHolder): Promise<void> {
  for (const location of parts.catalog.chunks.locations(id)) {
    if (location.pack === number) await parts.content.markSuspect(id, "its checksum does not match", location);
  }
}

/** The records of a pack; of one whose trailer is damaged those that a scan finds. Undefined when it is gone. */
async function entriesOf(
  core: RepositoryCore,
  source: ByteSource,
  signal: AbortSignal,
): Promise<readonly PackEntry[] | undefined> {
  try {
    return (await readPackDirectory(source, core.parts.opener, signal)).entries;
  } catch (error) {
    if (!hasCode(error, "OBJECT_DAMAGED") && !hasCode(error, "OBJECT_MISSING")) throw error;
    core.log.error("gc.pack_damaged", { reason: error.message });
    return hasCode(error, "OBJECT_MISSING") ? undefined : await scanEntries(source, core.parts.opener, signal);
  }
}

/** Writes needed records into new packs: whole ones raw, bundles with dead chunks sealed anew. */
class Rewriter implements AsyncDisposable {
  readonly #core: RepositoryCore;
  readonly #kind: PackKind;
  readonly #packs: FinishedPack[] = [];
  #writer: PackWriter;
  #sealer: RecordSealer;

  constructor(core: RepositoryCore, kind: PackKind) {
    this.#core = core;
    this.#kind = kind;
    this.#writer = core.newPack(kind);
    this.#sealer = new RecordSealer(core.parts.keys);
  }

  async add(entry: PackEntry, bytes: Buffer, needed: PackEntry["inner"]): Promise<void> {
    await this.#writer.add(this.#recordOf(entry, bytes, needed));
    if (this.#writer.full) await this.#close();
  }

  #recordOf(entry: PackEntry, bytes: Buffer, needed: PackEntry["inner"]): SealedRecord {
    if (needed === undefined || needed.length === entry.inner?.length) return { ...entry, bytes };
    const { keys, opener } = this.#core.parts;
    const { header, plain } = opener.open(bytes);
    const bundle = encodeBundle(needed.map((chunk) => ({ id: chunk.id, plain: chunkOfBundle(keys, plain, chunk) })));
    return { ...this.#sealer.seal("bundle", bundle.plain, header.codec), inner: bundle.inner };
  }

  async #close(): Promise<void> {
    const pack = await this.#writer.finish();
    if (pack !== undefined) this.#packs.push(pack);
    this.#writer = this.#core.newPack(this.#kind);
    this.#sealer = new RecordSealer(this.#core.parts.keys);
  }

  async finish(): Promise<readonly FinishedPack[]> {
    await this.#close();
    return this.#packs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
  }
}

// --- letting go ------------------------------------------------------------------------------------------------------

/** Writes fragments without the packs that go, in place of those that list them; gives the names of the replaced ones. */
async function replaceFragments(
  core: RepositoryCore,
  going: readonly ChunkHolder[],
  signal: AbortSignal,
): Promise<string[]> {
  const { backend, catalog, opener } = core.parts;
  const names = [...new Set(going.map(({ fragment }) => fragment))].filter((name) => name !== "");
  const gone = new Set(going.map(({ kind, name }) => `${kind}${name}`));
  const kept: IndexedPack[] = [];
  for (const name of names) {
    const { packs } = decodeFragment(opener.open(await backend.get(`index/${name}`, signal)).plain);
    kept.push(...packs.filter((pack) => !gone.has(`${pack.kind}${pack.sha256}`)));
  }
  let supersedes: readonly string[] = names;
  for (const group of fragmentGroups(kept)) {
    const name = await core.writeFragment({ packs: group, supersedes }, signal);
    const operations: LevelOperation[] = [];
    for (const { kind, sha256, sizeBytes } of group) {
      catalog.chunks.putHolder(operations, { kind, name: sha256, sizeBytes, fragment: name });
    }
    catalog.commits.putFragment(operations, name);
    await catalog.write(operations);
    supersedes = [];
  }
  return names;
}

/** Drops packs and all their places from the catalog. */
async function forgetPacks(core: RepositoryCore, going: readonly ChunkHolder[]): Promise<void> {
  const { catalog } = core.parts;
  const numbers = new Set(going.map(({ number }) => number));
  let operations: LevelOperation[] = [];
  for await (const page of catalog.chunks.all()) {
    for (const { id, locations } of page) {
      if (locations.some(({ pack }) => numbers.has(pack))) catalog.chunks.dropPlaces(operations, id, numbers);
    }
    if (operations.length < OPERATIONS_MAX) continue;
    await catalog.write(operations);
    operations = [];
  }
  for (const number of numbers) catalog.chunks.dropHolder(operations, number, []);
  await catalog.write(operations);
}

/** Refuses to let too much go at once. Throws LIMIT_REACHED. */
export function brake(plan: SweepPlan, allowShare: number, floorBytes: number): void {
  const share = plan.totalBytes === 0 ? 0 : plan.freedBytes / plan.totalBytes;
  if (plan.freedBytes <= floorBytes || share <= allowShare) return;
  const percent = (value: number): string => `${String(Math.round(value * 100))} %`;
  throw new HoldfastError(
    "LIMIT_REACHED",
    `the collection would free ${percent(share)} of the store, more than ${percent(allowShare)} at once`,
    { hint: "See what was removed; allow more when that is what you want.", details: { share, allowShare } },
  );
}
