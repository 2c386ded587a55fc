/**
 * Packs in which something was found damaged, as the store remembers them: an empty mark `suspects/<kind>/<name>` beside
 * each. What exactly is damaged only the index knows; an index that is made again, or is older than the mark, reads the
 * pack anew, so that no damaged chunk is ever relied upon because somebody forgot.
 */
import { messageOf } from "../../base/errors.js";
import type { Logger } from "../../base/observe.js";
import type { Backend } from "../../storage/backend.js";
import type { PackKind } from "../pack/format.js";
import { type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";

export const SUSPECTS_PREFIX = "suspects/";

/** What a mark is about. */
export interface MarkedPack {
  readonly kind: PackKind;
  /** SHA-256 of the pack, hex. */
  readonly name: string;
}

/** The marks that this index has taken in. */
export class SuspectPacks {
  readonly #level: LevelStore;
  readonly #keys = new Set<string>();

  constructor(level: LevelStore) {
    this.#level = level;
  }

  async load(): Promise<void> {
    const prefix = bucketKey("suspect");
    for await (const page of this.#level.pages(prefix, afterPrefix(prefix))) {
      for (const [key] of page) this.#keys.add(key.toString("latin1", 1));
    }
  }

  has(pack: MarkedPack): boolean {
    return this.#keys.has(markKey(pack));
  }

  put(operations: LevelOperation[], pack: MarkedPack): void {
    const key = markKey(pack);
    this.#keys.add(key);
    operations.push({ type: "put", key: bucketKey("suspect", Buffer.from(key)), value: Buffer.alloc(0) });
  }

  drop(operations: LevelOperation[], pack: MarkedPack): void {
    const key = markKey(pack);
    this.#keys.delete(key);
    operations.push({ type: "del", key: bucketKey("suspect", Buffer.from(key)) });
  }
}

/** The key of a pack's mark in the store. */
export function markKey({ kind, name }: MarkedPack): string {
  return `${SUSPECTS_PREFIX}${kind}/${name}`;
}

/** All marks in the store. */
export async function* storedMarks(backend: Backend, signal: AbortSignal): AsyncGenerator<MarkedPack> {
  for await (const { key } of backend.list(SUSPECTS_PREFIX, signal)) {
    const match = /^suspects\/([dm])\/([0-9a-f]{64})$/.exec(key);
    if (match?.[1] !== undefined && match[2] !== undefined)
      yield { kind: match[1] === "d" ? "d" : "m", name: match[2] };
  }
}

/** Marks a pack in the store; false when the store does not take it, which only the next damage found there makes up for. */
export async function storeMark(backend: Backend, pack: MarkedPack, log: Logger): Promise<boolean> {
  try {
    await backend.put(markKey(pack), Buffer.alloc(0), new AbortController().signal);
    return true;
  } catch (error) {
    log.warn("pack.mark_failed", { pack: pack.name, reason: messageOf(error) });
    return false;
  }
}
