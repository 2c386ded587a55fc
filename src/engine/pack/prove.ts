/**
 * The proof of a whole pack: its name is its SHA-256, and each record opens to what its ids say, bundled chunks one by
 * one. Every byte is read once; memory is one record.
 */
import { createHash, type Hash } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { hasCode, messageOf } from "../../base/errors.js";
import type { ChunkId } from "../types.js";
import type { PackEntry } from "./format.js";
import { chunkOfBundle, readPackDirectory, scanEntries } from "./reader.js";
import type { RecordOpener } from "./record.js";
import { salvaging } from "./salvage.js";
import { orDamaged } from "./scan.js";
import type { ByteSource } from "./source.js";

/** What opening every record of a pack found. */
export interface PackProof {
  /** False when the file's SHA-256 is not its name. */
  readonly nameMatches: boolean;
  readonly records: number;
  readonly bytes: number;
  /** Ids that the trailer lists and that cannot be opened, bundled chunks included. */
  readonly damaged: readonly ChunkId[];
  /** Why the trailer could not be read, if so; the entries then come from a scan. */
  readonly directoryFault: string | undefined;
  readonly entries: readonly PackEntry[];
}

/** Read at once where no record is, bytes. */
const GAP_READ_BYTES = 2 ** 20;
/** Some codecs' outputs are freed when the event loop turns: it does so after this many bytes. */
const BYTES_PER_TURN = 8 * 2 ** 20;

/** Reads a whole pack and proves its name and each record; what a disk does not read of it is damaged. */
export async function provePack(
  stored: ByteSource,
  sha256: string,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<PackProof> {
  const source = salvaging(stored);
  const { entries, fault } = await directoryOrScan(source, opener, signal);
  const hashing = new FileHash(source);
  const damaged: ChunkId[] = [];
  let turnAtBytes = BYTES_PER_TURN;
  for (const entry of entries) {
    signal.throwIfAborted();
    await hashing.upTo(entry.offsetBytes, signal);
    const bytes = await source.read(entry.offsetBytes, entry.recordBytes, signal);
    hashing.add(entry.offsetBytes, bytes);
    damaged.push(...damagedIn(entry, bytes, opener));
    if (entry.offsetBytes < turnAtBytes) continue;
    turnAtBytes = entry.offsetBytes + BYTES_PER_TURN;
    await nextTurn();
  }
  await hashing.upTo(source.sizeBytes, signal);
  return {
    nameMatches: hashing.digest() === sha256,
    records: entries.length,
    bytes: source.sizeBytes,
    damaged,
    directoryFault: fault,
    entries,
  };
}

/** The digest of a file whose parts come by, mostly in order. */
class FileHash {
  readonly #source: ByteSource;
  readonly #hash: Hash = createHash("sha256");
  #hashedBytes = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Takes a part that was read anyway, or what of it is new. Everything before it has been taken. */
  add(offsetBytes: number, bytes: Buffer): void {
    const known = Math.max(0, this.#hashedBytes - offsetBytes);
    if (known >= bytes.length) return; // a damaged list may name bytes twice
    this.#hash.update(known === 0 ? bytes : bytes.subarray(known));
    this.#hashedBytes = offsetBytes + bytes.length;
  }

  /** Reads what comes before `end` and was not taken yet. */
  async upTo(end: number, signal: AbortSignal): Promise<void> {
    while (this.#hashedBytes < end) {
      const wanted = Math.min(GAP_READ_BYTES, end - this.#hashedBytes);
      const part = await this.#source.read(this.#hashedBytes, wanted, signal);
      if (part.length === 0) return;
      this.add(this.#hashedBytes, part);
    }
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}

function damagedIn(entry: PackEntry, bytes: Buffer, opener: RecordOpener): ChunkId[] {
  const listed = entry.inner?.map((chunk) => chunk.id) ?? [];
  const opened = orDamaged(() => opener.openOnce(bytes));
  if (opened === undefined || opened.header.id !== entry.id || opened.header.type !== entry.type) {
    return [entry.id, ...listed];
  }
  return (entry.inner ?? [])
    .filter((chunk) => orDamaged(() => chunkOfBundle(opener.keys, opened.plain, chunk)) === undefined)
    .map((chunk) => chunk.id);
}

async function directoryOrScan(
  source: ByteSource,
  opener: RecordOpener,
  signal: AbortSignal,
): Promise<{ entries: readonly PackEntry[]; fault: string | undefined }> {
  try {
    return { entries: (await readPackDirectory(source, opener, signal)).entries, fault: undefined };
  } catch (error) {
    if (!hasCode(error, "OBJECT_DAMAGED")) throw error;
    return { entries: await scanEntries(source, opener, signal), fault: messageOf(error) };
  }
}
