/**
 * Going over entry states without making anything of them: every rule of the format is checked that reading them checks,
 * and the ids of their chunks are shown where they lie. A check of a repository looks at millions of states in this way.
 */
import { HoldfastError } from "../../base/errors.js";
import { ByteReader } from "./bytes.js";
import { skimState } from "./codec.js";
import { DELTA_KIND, readDeltaHead } from "./delta.js";

/** Is shown the id of each chunk: 32 bytes of `bytes` from `at`. */
export type SeeChunk = (bytes: Buffer, at: number) => void;

/** Shows the chunks of the state that begins at `offset`. Throws RECORD_DAMAGED where reading it would. */
export function chunksOfState(bytes: Buffer, offset: number, see: SeeChunk): void {
  skimState(new ByteReader(bytes, offset), (at) => see(bytes, at));
}

/** Throws RECORD_DAMAGED where `decodeDelta` would. */
export function assertDelta(bytes: Buffer): void {
  const reader = new ByteReader(bytes);
  readDeltaHead(reader);
  for (let left = reader.count(2); left > 0; left -= 1) {
    const kind = reader.byte();
    reader.skip(reader.varint());
    if (kind === DELTA_KIND.upsert) skimState(reader, ignore);
    else if (kind !== DELTA_KIND.remove) throw new HoldfastError("RECORD_DAMAGED", "a delta has an unknown change");
  }
  reader.end();
}

function ignore(): void {
  // only the form counts
}
