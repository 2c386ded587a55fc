/**
 * What of one source is to be made durable: each path once, with its newest meaning and the time of its oldest change.
 * Bounded: beyond the limit only a first part is kept and the source must be looked through anew (`needsReconcile`),
 * so that nothing is lost and memory does not grow.
 */
import type { BytePath } from "../base/paths.js";
import type { PathChange } from "../engine/repository-types.js";

/** Paths that one commit takes: some 50 ms of hashing for small files. */
export const BATCH_PATHS_MAX = 512;

export interface DirtyPath {
  readonly kind: PathChange["kind"];
  /** Wall ms of the oldest change that is not durable. */
  readonly seenAtMs: number;
}

export class DirtySet {
  readonly #paths = new Map<BytePath, DirtyPath>();
  readonly #pathsMax: number;
  #needsReconcile = false;

  constructor(pathsMax: number) {
    this.#pathsMax = pathsMax;
  }

  get size(): number {
    return this.#paths.size;
  }

  /** True after an overflow, until `reconciled`. */
  get needsReconcile(): boolean {
    return this.#needsReconcile;
  }

  /** Notes a change; the newest kind counts, the oldest time stays. */
  note(path: BytePath, change: DirtyPath): void {
    const known = this.#paths.get(path);
    if (known !== undefined) {
      this.#paths.set(path, { kind: change.kind, seenAtMs: Math.min(known.seenAtMs, change.seenAtMs) });
    } else if (!this.#needsReconcile) {
      this.#paths.set(path, change);
      if (this.#paths.size > this.#pathsMax) this.#overflow();
    }
  }

  /** Takes up to a batch out, oldest noted first. */
  take(): Map<BytePath, DirtyPath> {
    const batch = new Map<BytePath, DirtyPath>();
    for (const [path, change] of this.#paths) {
      if (batch.size >= BATCH_PATHS_MAX) break;
      batch.set(path, change);
      this.#paths.delete(path);
    }
    return batch;
  }

  /** Puts a batch back that could not be stored; what was noted meanwhile is newer. */
  giveBack(batch: ReadonlyMap<BytePath, DirtyPath>): void {
    for (const [path, change] of batch) {
      const newer = this.#paths.get(path);
      const seenAtMs = Math.min(change.seenAtMs, newer?.seenAtMs ?? change.seenAtMs);
      this.#paths.set(path, { kind: newer?.kind ?? change.kind, seenAtMs });
    }
  }

  /** The reconcile has been asked for: new changes are noted again. */
  reconciled(): void {
    this.#needsReconcile = false;
  }

  /** Keeps one batch, to find out when storing works again. */
  #overflow(): void {
    this.#needsReconcile = true;
    const kept = this.take();
    this.#paths.clear();
    for (const [path, change] of kept) this.#paths.set(path, change);
  }
}
