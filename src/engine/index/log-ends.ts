/**
 * The last commit that this index took in of each segment of a write-ahead log: where its frame lies and the frame's
 * SHA-256. A store that was put back to an earlier state may have the same segment without that frame, or with another
 * one in its place; then what the index says of paths and chunks is of a state that is no more.
 */
import { createHash } from "node:crypto";
import { hasCode } from "../../base/errors.js";
import type { Backend } from "../../storage/backend.js";
import { type LevelOperation, type LevelStore, afterPrefix, bucketKey } from "./level-store.js";

/** Where a frame lies in its segment, and what it is. */
export interface LogEnd {
  readonly offsetBytes: number;
  readonly recordBytes: number;
  /** SHA-256 of the frame's record, hex. */
  readonly frameHash: string;
}

export class LogEnds {
  readonly #level: LevelStore;

  constructor(level: LevelStore) {
    this.#level = level;
  }

  /** `segment` is `<writer>/<file name without .seg>`. */
  put(operations: LevelOperation[], segment: string, { offsetBytes, recordBytes, frameHash }: LogEnd): void {
    const value = Buffer.alloc(16 + frameHash.length / 2);
    value.writeBigUInt64LE(BigInt(offsetBytes), 0);
    value.writeBigUInt64LE(BigInt(recordBytes), 8);
    value.write(frameHash, 16, "hex");
    operations.push({ type: "put", key: endKey(segment), value });
  }

  drop(operations: LevelOperation[], segment: string): void {
    operations.push({ type: "del", key: endKey(segment) });
  }

  /**
   * The first segment that does not hold the frame that was taken in of it; undefined when all do. What the disk does
   * not give tells nothing: the replay of the log tells of it.
   */
  async firstUnlike(backend: Backend, signal: AbortSignal): Promise<string | undefined> {
    const prefix = bucketKey("logEnd");
    for await (const page of this.#level.pages(prefix, afterPrefix(prefix))) {
      for (const [key, value] of page) {
        const segment = key.toString("latin1", 1);
        if (!(await holds(backend, segment, value, signal))) return segment;
      }
    }
    return undefined;
  }
}

async function holds(backend: Backend, segment: string, value: Buffer, signal: AbortSignal): Promise<boolean> {
  const [offsetBytes, recordBytes] = [Number(value.readBigUInt64LE(0)), Number(value.readBigUInt64LE(8))];
  const key = `wal/${segment}.seg`;
  try {
    const info = await backend.stat(key, signal);
    if (info === undefined || info.sizeBytes < offsetBytes + recordBytes) return false;
    const frame = await backend.getRange(key, offsetBytes, recordBytes, signal);
    return createHash("sha256").update(frame).digest().equals(value.subarray(16));
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING")) return false;
    if (hasCode(error, "STORE_IO")) return true;
    throw error;
  }
}

function endKey(segment: string): Buffer {
  return bucketKey("logEnd", Buffer.from(segment));
}
