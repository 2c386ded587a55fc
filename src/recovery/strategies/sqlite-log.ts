/**
 * Reads the write-ahead log of SQLite (`name.db-wal`) without SQLite: which pages it holds as of the last transaction
 * that was committed whole. Layout and checksums as in sqlite.org/fileformat2.html, section 4. Hostile bytes never
 * crash it: what does not check out ends the log.
 */

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
const MAGIC = 0x377f0682;
const VERSION = 3_007_000;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;

export interface SqliteLog {
  readonly pageBytes: number;
  /** Pages of the whole database after the last committed transaction. */
  readonly pageCount: number;
  /** Where in the log the newest committed content of a page begins; pages count from 1. */
  readonly pages: ReadonlyMap<number, number>;
  /** Transactions that were committed whole. */
  readonly commits: number;
}

/** The committed content of a log; undefined when there is none, or the bytes are no such log. */
export function readSqliteLog(bytes: Buffer): SqliteLog | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const magic = bytes.readUInt32BE(0);
  const pageBytes = bytes.readUInt32BE(8);
  const isPageSize = pageBytes >= PAGE_BYTES_MIN && pageBytes <= PAGE_BYTES_MAX && (pageBytes & (pageBytes - 1)) === 0;
  if ((magic & ~1) !== MAGIC || bytes.readUInt32BE(4) !== VERSION || !isPageSize) return undefined;
  const sum = new RunningSum((magic & 1) === 1);
  sum.add(bytes.subarray(0, 24));
  if (!sum.is(bytes.readUInt32BE(24), bytes.readUInt32BE(28))) return undefined;
  return committed(bytes, pageBytes, sum);
}

function committed(bytes: Buffer, pageBytes: number, sum: RunningSum): SqliteLog | undefined {
  const salt = bytes.subarray(16, 24);
  const pages = new Map<number, number>();
  let open = new Map<number, number>();
  let pageCount = 0;
  let commits = 0;
  for (
    let at = HEADER_BYTES;
    at + FRAME_HEADER_BYTES + pageBytes <= bytes.length;
    at += FRAME_HEADER_BYTES + pageBytes
  ) {
    const start = at + FRAME_HEADER_BYTES;
    if (!bytes.subarray(at + 8, at + 16).equals(salt)) break; // left over from before the log began anew
    sum.add(bytes.subarray(at, at + 8));
    sum.add(bytes.subarray(start, start + pageBytes));
    if (!sum.is(bytes.readUInt32BE(at + 16), bytes.readUInt32BE(at + 20))) break;
    const page = bytes.readUInt32BE(at);
    if (page === 0) break;
    open.set(page, start);
    const countAfter = bytes.readUInt32BE(at + 4);
    if (countAfter === 0) continue; // not the end of a transaction
    for (const [number, offset] of open) pages.set(number, offset);
    open = new Map();
    pageCount = countAfter;
    commits += 1;
  }
  return commits === 0 ? undefined : { pageBytes, pageCount, pages, commits };
}

/** SQLite's checksum: two words that run through the whole log. */
class RunningSum {
  #first = 0;
  #second = 0;
  readonly #isBigEndian: boolean;

  constructor(isBigEndian: boolean) {
    this.#isBigEndian = isBigEndian;
  }

  /** The length must be a multiple of 8. */
  add(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += 8) {
      const [one, other] = this.#isBigEndian
        ? [bytes.readUInt32BE(at), bytes.readUInt32BE(at + 4)]
        : [bytes.readUInt32LE(at), bytes.readUInt32LE(at + 4)];
      this.#first = (this.#first + one + this.#second) >>> 0;
      this.#second = (this.#second + other + this.#first) >>> 0;
    }
  }

  is(first: number, second: number): boolean {
    return this.#first === first && this.#second === second;
  }
}
