/**
 * The payload of a delta commit: what one on-change commit (or one step of a backup) changed in one source. It is the
 * content of a write-ahead log frame and of the frames in a sealed delta batch (format: "Deltas").
 */
import { HoldfastError } from "../../base/errors.js";
import type { BytePath } from "../../base/paths.js";
import { ByteReader, ByteWriter } from "./bytes.js";
import { type EntryState, readState, writeState } from "./codec.js";
import { writeStamped } from "./unstamped.js";

export type DeltaChange =
  | { readonly kind: "upsert"; readonly path: BytePath; readonly state: EntryState }
  | { readonly kind: "remove"; readonly path: BytePath };

export interface Delta {
  readonly source: string;
  readonly seq: number;
  readonly timeMs: number;
  readonly changes: readonly DeltaChange[];
}

const VERSION = 1;
/** The byte before each change. */
export const DELTA_KIND = { remove: 0, upsert: 1 } as const;

export function encodeDelta(delta: Delta): Buffer {
  const writer = new ByteWriter();
  writeHead(writer, delta, delta.changes.length);
  for (const change of delta.changes) {
    writer.byte(DELTA_KIND[change.kind]);
    writer.sizedLatin1(change.path);
    if (change.kind === "upsert") writeState(writer, change.state);
  }
  return writer.take();
}

function writeHead(writer: ByteWriter, delta: Omit<Delta, "changes">, count: number): void {
  writer.byte(VERSION);
  writer.sizedBytes(Buffer.from(delta.source, "utf8"));
  writer.varint(delta.seq);
  writer.varint(delta.timeMs);
  writer.varint(count);
}

/** A path with its state as a worker made it (`unstamped.ts`). */
export interface UnstampedUpsert {
  readonly path: BytePath;
  readonly unstamped: Buffer;
  /** Time of the version where it is not the delta's, wall ms. */
  readonly timeMs?: number;
}

/** The same bytes for upserts that a worker encoded; `states` are views of the state of each in the payload. */
export function encodeUpserts(
  delta: Omit<Delta, "changes">,
  upserts: readonly UnstampedUpsert[],
): { readonly payload: Buffer; readonly states: readonly Buffer[] } {
  const writer = new ByteWriter();
  const bounds: number[] = [];
  writeHead(writer, delta, upserts.length);
  for (const { path, unstamped, timeMs } of upserts) {
    writer.byte(DELTA_KIND.upsert);
    writer.sizedLatin1(path);
    bounds.push(writer.length);
    writeStamped(writer, unstamped, { seq: delta.seq, timeMs: timeMs ?? delta.timeMs });
    bounds.push(writer.length);
  }
  const payload = writer.take();
  return { payload, states: upserts.map((_, index) => payload.subarray(bounds[index * 2], bounds[index * 2 + 1])) };
}

/** Throws RECORD_DAMAGED. */
export function decodeDelta(bytes: Buffer): Delta {
  const reader = new ByteReader(bytes);
  const head = readDeltaHead(reader);
  const changes: DeltaChange[] = [];
  for (let left = reader.count(2); left > 0; left -= 1) changes.push(readChange(reader));
  reader.end();
  return { ...head, changes };
}

/** What stands before the changes of a delta and their count. Throws RECORD_DAMAGED. */
export function readDeltaHead(reader: ByteReader): Omit<Delta, "changes"> {
  if (reader.byte() !== VERSION) throw new HoldfastError("RECORD_DAMAGED", "a delta has an unknown version");
  return { source: reader.sizedBytes().toString("utf8"), seq: reader.varint(), timeMs: reader.varint() };
}

function readChange(reader: ByteReader): DeltaChange {
  const kind = reader.byte();
  const path = reader.sizedLatin1() as BytePath;
  if (kind === DELTA_KIND.upsert) return { kind: "upsert", path, state: readState(reader) };
  if (kind === DELTA_KIND.remove) return { kind: "remove", path };
  throw new HoldfastError("RECORD_DAMAGED", "a delta has an unknown change");
}
