/**
 * Lost packs and chunks out of parity. A pack that is gone comes back whole, under its own name; of one that is damaged
 * only the lost chunks are taken, into a new pack.
 */
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { storeError } from "../../storage/store-error.js";
import type { RepositoryCore } from "../core.js";
import { chunksOfEntries } from "../index/chunk-index.js";
import type { LevelOperation } from "../index/level-store.js";
import { packKey } from "../pack/format.js";
import { objectSource, readPackDirectory } from "../pack/reader.js";
import type { ParityMember } from "../parity/format.js";
import { dropMark } from "../suspects.js";
import type { FoundRecords } from "./found-records.js";
import { isDamage, type LostChunks } from "./lost.js";

/** Made and written at once. */
const PART_BYTES = 2 ** 20;

/** Puts packs back that are missing and have parity; gives their size. What they hold is known to be good afterwards. */
export async function restoreMissingPacks(core: RepositoryCore, signal: AbortSignal): Promise<number> {
  const { backend, catalog, parity } = core.parts;
  let restoredBytes = 0;
  for (const [key, member] of await parity.membersByKey(signal)) {
    const isKnown = catalog.chunks.holderNamed(member.kind, member.sha256) !== undefined;
    if (!isKnown || (await backend.stat(key, signal)) !== undefined) continue;
    const staged = await stagedPack(core, member, signal);
    if (staged === undefined) continue;
    await core.maintenance.run(async () => {
      await backend.putFile(key, staged, signal);
      await takeBack(core, member, signal);
    }, signal);
    core.log.info("repair.pack_restored", { pack: member.sha256 });
    restoredBytes += member.sizeBytes;
  }
  return restoredBytes;
}

/** The pack made anew in the staging folder, or undefined when parity does not suffice. */
async function stagedPack(
  core: RepositoryCore,
  member: ParityMember,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { backend, io, parity } = core.parts;
  const path = join(backend.stagingFolder, `${STAGING_PREFIX}repair-${randomBytes(12).toString("hex")}`);
  const hash = createHash("sha256");
  try {
    const file = await io.create(path);
    try {
      for (let offsetBytes = 0; offsetBytes < member.sizeBytes; offsetBytes += PART_BYTES) {
        const bytes = await parity.range(member, { offsetBytes, lengthBytes: PART_BYTES }, signal);
        if (bytes === undefined) break;
        hash.update(bytes);
        await file.write([bytes], offsetBytes);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (hash.digest("hex") === member.sha256) return path;
    await io.unlink(path);
    return undefined;
  } catch (error) {
    throw storeError(error, "restoring a pack");
  }
}

/** The chunks of a pack that is whole again count again; one that no fragment lists is listed. */
async function takeBack(
  core: RepositoryCore,
  { kind, sha256, sizeBytes }: ParityMember,
  signal: AbortSignal,
): Promise<void> {
  const { backend, catalog, chunkSet, opener } = core.parts;
  const source = objectSource(backend, packKey(kind, sha256), sizeBytes);
  const { entries } = await readPackDirectory(source, opener, signal);
  const pack = { kind, sha256, sizeBytes, entries };
  const fragment = catalog.chunks.holderNamed(kind, sha256)?.fragment ?? "";
  if (fragment === "") await core.storeFragment([pack], [], signal, { trust: "proven" });
  else {
    const operations: LevelOperation[] = [];
    catalog.chunks.putPack(operations, pack, fragment, { trust: "proven" });
    await catalog.write(operations);
  }
  for (const { id } of chunksOfEntries(0, entries)) chunkSet.addDurable(id);
  await dropMark(core, { kind, name: sha256 }, signal);
}

/** Reads the lost chunks that parity gives. */
export async function findInParity(
  core: RepositoryCore,
  lost: LostChunks,
  found: FoundRecords,
  signal: AbortSignal,
): Promise<void> {
  const { catalog, parity } = core.parts;
  for (const id of [...lost.keys()]) {
    for (const { pack, offsetBytes, recordBytes } of catalog.chunks.locations(id)) {
      signal.throwIfAborted();
      const holder = catalog.chunks.holder(pack);
      if (!lost.has(id) || holder === undefined || holder.kind === "w") continue;
      const name = { kind: holder.kind, sha256: holder.name };
      const record = await parity.range(name, { offsetBytes, lengthBytes: recordBytes }, signal);
      if (record !== undefined) await offerRecord(core, record, found);
    }
  }
}

async function offerRecord(core: RepositoryCore, bytes: Buffer, found: FoundRecords): Promise<void> {
  try {
    await found.addOpened(core.parts.opener.open(bytes), bytes);
  } catch (error) {
    if (!isDamage(error)) throw error;
  }
}
