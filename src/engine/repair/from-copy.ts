/**
 * Lost chunks out of another copy of the same repository: one that was copied with ordinary tools, or kept on another
 * disk. Its index fragments say where its packs have them, its packs' trailers where the fragments do not.
 */
import { HoldfastError, messageOf } from "../../base/errors.js";
import type { Backend } from "../../storage/backend.js";
import { openBackend } from "../../storage/open.js";
import { sha256Of } from "../commit-log.js";
import type { RepositoryCore } from "../core.js";
import { decodeFragment, type IndexedPack } from "../index/fragments.js";
import { packKey, type PackKind } from "../pack/format.js";
import { objectSource, readPackDirectory } from "../pack/reader.js";
import { readConfig } from "../repository-config.js";
import { type FoundRecords, holdsLost } from "./found-records.js";
import { isDamage, type LostChunks } from "./lost.js";

/** Opens a copy. Throws REPO_NOT_FOUND, USAGE when it is a copy of another repository or the store itself. */
export async function openCopy(core: RepositoryCore, url: string, signal: AbortSignal): Promise<Backend> {
  const copy = await openBackend(url);
  try {
    const { config } = await readConfig(copy, signal);
    if (copy.url === core.parts.backend.url)
      throw new HoldfastError("USAGE", `${url} is the store itself`, { hint: "Give the place of another copy of it." });
    if (config.repository_id !== core.parts.config.repository_id)
      throw new HoldfastError("USAGE", `${url} is a copy of another repository`, {
        hint: "A copy has the same repository id: see `holdfast status --json`.",
      });
    return copy;
  } catch (error) {
    await copy[Symbol.asyncDispose]();
    throw error;
  }
}

/** Reads the lost chunks that a copy has whole. */
export async function findInCopy(
  core: RepositoryCore,
  copy: Backend,
  { lost, found }: { readonly lost: LostChunks; readonly found: FoundRecords },
  signal: AbortSignal,
): Promise<void> {
  const listed = new Set<string>();
  for await (const { key } of copy.list("index/", signal)) {
    if (lost.size === 0) return;
    for (const pack of await packsOfFragment(core, copy, key, signal)) {
      if (pack.entries.some((entry) => holdsLost(entry, lost)))
        await takeFrom(core, copy, { pack, lost, found }, signal);
      listed.add(packKey(pack.kind, pack.sha256));
    }
  }
  for (const kind of ["d", "m"] as const) {
    for await (const { key, sizeBytes } of copy.list(`packs/${kind}/`, signal)) {
      if (lost.size === 0) return;
      if (listed.has(key)) continue;
      const pack = await unlistedPack(core, copy, { kind, key, sizeBytes }, signal);
      if (pack !== undefined) await takeFrom(core, copy, { pack, lost, found }, signal);
    }
  }
}

async function packsOfFragment(
  core: RepositoryCore,
  copy: Backend,
  key: string,
  signal: AbortSignal,
): Promise<readonly IndexedPack[]> {
  try {
    const bytes = await copy.get(key, signal);
    if (sha256Of(bytes) !== key.slice("index/".length)) return [];
    return decodeFragment(core.parts.opener.open(bytes).plain).packs;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [];
  }
}

async function unlistedPack(
  core: RepositoryCore,
  copy: Backend,
  { kind, key, sizeBytes }: { readonly kind: PackKind; readonly key: string; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<IndexedPack | undefined> {
  try {
    const { entries } = await readPackDirectory(objectSource(copy, key, sizeBytes), core.parts.opener, signal);
    return { kind, sha256: key.slice(key.lastIndexOf("/") + 1), sizeBytes, entries };
  } catch (error) {
    if (!isDamage(error)) throw error;
    return undefined;
  }
}

async function takeFrom(
  core: RepositoryCore,
  copy: Backend,
  { pack, lost, found }: { readonly pack: IndexedPack; readonly lost: LostChunks; readonly found: FoundRecords },
  signal: AbortSignal,
): Promise<void> {
  const key = packKey(pack.kind, pack.sha256);
  for (const entry of pack.entries) {
    signal.throwIfAborted();
    if (!holdsLost(entry, lost)) continue;
    try {
      const bytes = await copy.getRange(key, entry.offsetBytes, entry.recordBytes, signal);
      if (await found.offer(entry, bytes)) continue;
      core.log.warn("repair.copy_damaged", { pack: key, offsetBytes: entry.offsetBytes });
    } catch (error) {
      if (!isDamage(error)) throw error;
      core.log.warn("repair.copy_damaged", { pack: key, reason: messageOf(error) });
      return;
    }
  }
}
