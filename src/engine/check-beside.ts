/**
 * What a writer removed while a reader checks. A reader's index is as old as its start, and what a collection took away
 * since, or a backup that was removed, is no damage: the store itself says what went, and why.
 */
import { hasCode } from "../base/errors.js";
import { type StoredCommit, decodeCommit } from "./commit-log.js";
import type { RepositoryCore } from "./core.js";
import { collectedKeys, newestEpoch } from "./index/epochs.js";
import { isUnread } from "./index/unread-objects.js";

/** For a writer nothing goes beside it: each answer is false. */
export class Beside {
  readonly #core: RepositoryCore;
  /** The collection that `#collected` was read after. One may have been under way when the index was made. */
  #epoch: number | undefined;
  #collected: ReadonlySet<string> = new Set();

  constructor(core: RepositoryCore) {
    this.#core = core;
  }

  /** True for an object that a collection removed after this index was made. */
  async isCollected(key: string, signal: AbortSignal): Promise<boolean> {
    const { backend, write } = this.#core.parts;
    if (write !== undefined) return false;
    const { epoch } = await newestEpoch(backend, signal);
    if (epoch !== this.#epoch) {
      this.#collected = await collectedKeys(backend, signal);
      this.#epoch = epoch;
    }
    return this.#collected.has(key);
  }

  /** True for a backup that was removed after this index was made. */
  async isRemoved(backupId: string, signal: AbortSignal): Promise<boolean> {
    const { backend, catalog, write } = this.#core.parts;
    if (write !== undefined) return false;
    for await (const { key } of backend.list("commits/", signal)) {
      if (catalog.commits.isApplied(key)) continue;
      const body = (await this.#commit(key, signal))?.header.body;
      if (body?.kind === "removal" && body.backupIds.includes(backupId)) return true;
    }
    return false;
  }

  /** Undefined for one that does not read, of which others tell, or that went meanwhile. */
  async #commit(key: string, signal: AbortSignal): Promise<StoredCommit | undefined> {
    const { backend, opener } = this.#core.parts;
    try {
      return decodeCommit(opener, key, await backend.get(key, signal));
    } catch (error) {
      if (!isUnread(error) && !hasCode(error, "OBJECT_MISSING")) throw error;
      return undefined;
    }
  }
}
