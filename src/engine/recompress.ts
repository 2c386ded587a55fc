/**
 * Recompression while a machine has nothing else to do: packs are written anew at a higher level. A new pack is in the
 * store and in the index before the one whose place it takes goes, and that goes the way of a garbage collection, only
 * when each of its chunks has another good place. Broken off at any moment nothing is lost: a new pack beside the old
 * one is a second copy, of which the next collection removes one.
 */
import { hasCode } from "../base/errors.js";
import type { Compression } from "./codec/codec.js";
import type { RepositoryCore } from "./core.js";
import { letGo } from "./gc-sweep.js";
import { type ChunkHolder, holderObjectKey } from "./index/chunk-index.js";
import { interruptedPlan } from "./index/epochs.js";
import type { Repository } from "./repository.js";

/** The packs that were tried, by name, with the compression: of those that are not smaller it is not tried again. */
export interface TriedPacks {
  get(pack: string): Promise<string | undefined>;
  put(pack: string, compression: string): Promise<void>;
}

export interface RecompressOptions {
  readonly compression: Compression;
  /** Packs are written anew until so many of their bytes were read. */
  readonly budgetBytes: number;
  readonly tried: TriedPacks;
  /** Asked before each pack; false ends the work. */
  readonly goOn: () => boolean;
}

export interface RecompressReport {
  readonly packsTried: number;
  readonly packsRewritten: number;
  readonly bytesRead: number;
  /** Bytes of the store that became free. */
  readonly bytesSaved: number;
  /** True: every pack was tried. */
  readonly isDone: boolean;
}

/** A pack is written anew when it becomes this much smaller. */
const WORTHWHILE_SHARE = 0.97;
/** Packs that are there twice until the old ones go: 256 MiB of room. */
const ROUND_PACKS = 8;

interface Sums {
  packsTried: number;
  packsRewritten: number;
  bytesRead: number;
  bytesSaved: number;
}

/**
 * Writes packs anew, a few at a time; backups and collections get their turn between two packs. Rejects with
 * INTERRUPTED when aborted, STORE_FULL, STORE_IO: what was done until then stays done.
 */
export async function recompress(
  repository: Repository,
  options: RecompressOptions,
  signal: AbortSignal,
): Promise<RecompressReport> {
  const { core } = repository;
  core.writeSide();
  const sums: Sums = { packsTried: 0, packsRewritten: 0, bytesRead: 0, bytesSaved: 0 };
  const old: ChunkHolder[] = [];
  const report = (isDone: boolean): RecompressReport => ({ ...sums, isDone });
  try {
    for (const holder of [...core.parts.catalog.chunks.holders()]) {
      if (holder.kind === "w" || (await options.tried.get(holder.name)) === options.compression) continue;
      if (sums.bytesRead >= options.budgetBytes || !options.goOn()) return report(false);
      const work = { holder, options, sums };
      if (await core.longWork.run(() => rewrite(core, work, signal), signal)) old.push(holder);
      if (old.length >= ROUND_PACKS) await dropOld(core, old.splice(0), sums, signal);
    }
    return report(true);
  } finally {
    // Also after an interruption: the new ones are there.
    if (old.length > 0) await dropOld(core, old, sums, AbortSignal.any([]));
  }
}

interface Rewrite {
  readonly holder: ChunkHolder;
  readonly options: RecompressOptions;
  readonly sums: Sums;
}

/** True when another pack has everything that the old one has. */
async function rewrite(
  core: RepositoryCore,
  { holder, options, sums }: Rewrite,
  signal: AbortSignal,
): Promise<boolean> {
  const { catalog, pool } = core.parts;
  const { kind, name, sizeBytes } = holder;
  if (kind === "w" || catalog.chunks.holderNamed(kind, name) === undefined) return false; // collected meanwhile
  const { compression, tried } = options;
  const bytesMax = Math.floor(sizeBytes * WORTHWHILE_SHARE);
  const request = { key: holderObjectKey(holder), kind, compression, bytesMax };
  sums.packsTried += 1;
  sums.bytesRead += sizeBytes;
  const pack = await pool.recompress(request, signal).catch((error: unknown) => {
    // What is damaged stays as it is, for `check` and `repair`.
    if (!hasCode(error, "RECORD_DAMAGED") && !hasCode(error, "OBJECT_DAMAGED") && !hasCode(error, "OBJECT_MISSING"))
      throw error;
    core.log.warn("recompress.pack_damaged", { pack: name, error });
    return undefined;
  });
  if (pack === undefined) {
    await tried.put(name, compression);
    return false;
  }
  await core.storePacks([pack], signal);
  await tried.put(pack.sha256, compression);
  sums.packsRewritten += 1;
  sums.bytesSaved += sizeBytes - pack.sizeBytes;
  return true;
}

/** Lets old packs go. What a collection began and a crash cut off is finished first. */
async function dropOld(
  core: RepositoryCore,
  old: readonly ChunkHolder[],
  sums: Readonly<Sums>,
  signal: AbortSignal,
): Promise<void> {
  await core.longWork.run(async () => {
    const interrupted = await interruptedPlan(core.parts.backend, core.log, signal);
    if (interrupted !== undefined) return; // the next collection finishes it, and finds these packs needless
    await core.maintenance.run(
      () => letGo(core, old, { isNeeded: () => true, orphans: [], commits: [] }, signal),
      signal,
    );
  }, signal);
  core.log.info("recompress.round", { ...sums, packs: old.length });
}
