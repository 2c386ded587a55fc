/**
 * What the write-ahead log holds that is not yet in packs: the records and deltas of each segment, by segment. Kept in
 * memory beside the log, so that sealing need not open every frame again; bounded by the log's size, at which it is sealed.
 */
import type { PackEntry } from "./pack/format.js";

export interface TailSegment {
  readonly segment: number;
  readonly path: string;
  /** Chunk and bundle records; frames are not among them. */
  readonly entries: PackEntry[];
  /** Encoded deltas, in order. */
  readonly deltas: Uint8Array[];
  firstSeq: number;
  lastSeq: number;
}

export class WalTail {
  readonly #segments = new Map<number, TailSegment>();

  /** Notes a commit whose frame lies in `segment`; its records may lie in an earlier one. */
  addDelta(segment: number, path: string, seq: number, payload: Uint8Array): void {
    const known = this.#at(segment, path);
    known.deltas.push(payload);
    known.firstSeq = known.firstSeq === 0 ? seq : Math.min(known.firstSeq, seq);
    known.lastSeq = Math.max(known.lastSeq, seq);
  }

  addEntry(segment: number, path: string, entry: PackEntry): void {
    this.#at(segment, path).entries.push(entry);
  }

  #at(segment: number, path: string): TailSegment {
    const known = this.#segments.get(segment);
    if (known !== undefined) return known;
    const made: TailSegment = { segment, path, entries: [], deltas: [], firstSeq: 0, lastSeq: 0 };
    this.#segments.set(segment, made);
    return made;
  }

  /** All segments noted so far, oldest first. */
  segments(): TailSegment[] {
    return [...this.#segments.values()].sort((a, b) => a.segment - b.segment);
  }

  /** Forgets segments that are sealed. */
  dropThrough(segment: number): void {
    for (const known of this.#segments.keys()) if (known <= segment) this.#segments.delete(known);
  }
}
