/**
 * When each pack was last read as a whole and found to be what it was written as, and whether a full check is under
 * way: so a sample takes the packs that waited longest, and a check that was cut short goes on where it was. Lost with
 * the index, which only means that packs are read again sooner.
 */
import { type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";

const STARTED = "full-check-started";

export class VerifiedPacks {
  readonly #level: LevelStore;
  /** Wall ms by the pack's name. */
  readonly #times = new Map<string, number>();

  constructor(level: LevelStore) {
    this.#level = level;
  }

  async load(): Promise<void> {
    const prefix = bucketKey("verified");
    for await (const page of this.#level.pages(prefix, afterPrefix(prefix))) {
      for (const [key, value] of page) this.#times.set(key.toString("hex", 1), Number(value.readBigUInt64LE(0)));
    }
  }

  /** Wall ms; 0 for a pack that was never read as a whole. */
  timeOf(sha256: string): number {
    return this.#times.get(sha256) ?? 0;
  }

  async note(sha256: string, timeMs: number): Promise<void> {
    this.#times.set(sha256, timeMs);
    const value = Buffer.alloc(8);
    value.writeBigUInt64LE(BigInt(Math.max(0, Math.round(timeMs))));
    await this.#level.write([{ type: "put", key: keyOf(sha256), value }]);
  }

  /** Forgets packs that are no more. */
  async keepOnly(names: ReadonlySet<string>): Promise<void> {
    const operations: LevelOperation[] = [];
    for (const name of this.#times.keys()) {
      if (names.has(name)) continue;
      this.#times.delete(name);
      operations.push({ type: "del", key: keyOf(name) });
    }
    await this.#level.write(operations);
  }

  /** When the full check began that has not ended, wall ms; undefined when none is under way. */
  get fullCheckStartedMs(): number | undefined {
    const value = this.#level.get(metaKey());
    return value === undefined ? undefined : Number(value.toString("utf8"));
  }

  async noteFullCheck(startedMs: number | undefined): Promise<void> {
    const key = metaKey();
    await this.#level.write([
      startedMs === undefined ? { type: "del", key } : { type: "put", key, value: Buffer.from(String(startedMs)) },
    ]);
  }
}

function keyOf(sha256: string): Buffer {
  return bucketKey("verified", Buffer.from(sha256, "hex"));
}

function metaKey(): Buffer {
  return bucketKey("meta", Buffer.from(STARTED));
}
