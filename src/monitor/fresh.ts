/**
 * Files that were read so soon after their ctime that a store through a mapping may have been missed. Each is to be read
 * once more when stores would show, so that the last ones are kept, and rot can be told from then on.
 */
import type { BytePath } from "../base/paths.js";
import { sawEveryStore, unseenStoresMs } from "../engine/rot.js";
import type { RegistryRecord } from "./registry.js";

/** About 150 bytes each; those beyond are found when the background reading comes by. */
const FRESH_MAX = 10_000;

export class FreshReadings {
  /** Paths with their ctime, the latest reading last. */
  readonly #ctimes = new Map<BytePath, bigint>();

  /** Notes what was registered of a path. */
  note(path: BytePath, { kind, stat, lastVerifiedMs }: RegistryRecord): void {
    this.#ctimes.delete(path);
    if (kind !== "file" || this.#ctimes.size >= FRESH_MAX || sawEveryStore(stat.ctimeNs, lastVerifiedMs)) return;
    this.#ctimes.set(path, stat.ctimeNs);
  }

  /** Takes out what can be read now without missing a store, the oldest reading first; wall ms. */
  *takeDue(nowMs: number): Generator<BytePath> {
    const unseenMs = unseenStoresMs();
    for (const [path, ctimeNs] of this.#ctimes) {
      if (!sawEveryStore(ctimeNs, nowMs, unseenMs)) continue;
      this.#ctimes.delete(path);
      yield path;
    }
  }
}
