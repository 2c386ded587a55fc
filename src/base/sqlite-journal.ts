/**
 * Reads the rollback journal of SQLite (`name-journal`) without SQLite: the pages of the database as they were before the
 * transaction that is under way. Layout and checksums as in sqlite.org/fileformat2.html, section 3. Hostile bytes never
 * crash it: what does not check out ends the journal, as it does for SQLite.
 */
import { SQLITE_JOURNAL_MAGIC } from "./sqlite-files.js";

/** Where the first page of a database counts its transactions. */
export const SQLITE_CHANGE_COUNTER = { from: 24, to: 28 } as const;

const HEADER_BYTES = 28;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;
const SECTOR_BYTES_MIN = 32;
/** Before and behind the page in a record: its number and its checksum, bytes. */
const NUMBER_BYTES = 4;
const FRAME_BYTES = 8;
/** A count that says "as many as there are". */
const COUNT_UNKNOWN = 0xffff_ffff;
/** The checksum adds every so manieth byte, from the end on. */
const CHECKSUM_STEP = 200;

export interface JournalHeader {
  readonly count: number;
  readonly nonce: number;
  /** Pages of the database before the transaction. */
  readonly pageCount: number;
  readonly sectorBytes: number;
  readonly pageBytes: number;
}

export interface OriginalPage {
  /** Counts from 1. */
  readonly number: number;
  /** Where its content begins in the journal. */
  readonly offset: number;
  readonly content: Buffer;
}

/** The pages that a journal holds, as far as its parts make sense; `first`: its header. */
export function* originalPages(journal: Buffer, first: JournalHeader): Generator<OriginalPage> {
  const { pageBytes, sectorBytes } = first;
  for (let start = 0, header: JournalHeader | undefined = first; header !== undefined;) {
    let at = start + sectorBytes;
    for (let index = 0; index < header.count && at + FRAME_BYTES + pageBytes <= journal.length; index += 1) {
      const number = journal.readUInt32BE(at);
      const offset = at + NUMBER_BYTES;
      const content = journal.subarray(offset, offset + pageBytes);
      if (number === 0 || checksum(header.nonce, content) !== journal.readUInt32BE(offset + pageBytes)) return;
      yield { number, offset, content };
      at += FRAME_BYTES + pageBytes;
    }
    start = Math.ceil(at / sectorBytes) * sectorBytes;
    header = journalHeaderAt(journal, start);
  }
}

/** Undefined where no header stands, or one without pages: such a journal undoes nothing. */
export function journalHeaderAt(journal: Buffer, start: number): JournalHeader | undefined {
  if (start + HEADER_BYTES > journal.length) return undefined;
  const bytes = journal.subarray(start, start + HEADER_BYTES);
  if (!bytes.subarray(0, SQLITE_JOURNAL_MAGIC.length).equals(SQLITE_JOURNAL_MAGIC)) return undefined;
  const [sectorBytes, pageBytes] = [bytes.readUInt32BE(20), bytes.readUInt32BE(24)];
  const isSound = isPowerWithin(sectorBytes, SECTOR_BYTES_MIN) && isPowerWithin(pageBytes, PAGE_BYTES_MIN);
  const count = bytes.readUInt32BE(8);
  if (!isSound || count === 0) return undefined;
  return {
    count: count === COUNT_UNKNOWN ? Infinity : count,
    nonce: bytes.readUInt32BE(12),
    pageCount: bytes.readUInt32BE(16),
    sectorBytes,
    pageBytes,
  };
}

function checksum(nonce: number, page: Buffer): number {
  let sum = nonce;
  for (let at = page.length - CHECKSUM_STEP; at > 0; at -= CHECKSUM_STEP) sum += page[at] ?? 0;
  return sum % 2 ** 32;
}

function isPowerWithin(value: number, min: number): boolean {
  return value >= min && value <= PAGE_BYTES_MAX && (value & (value - 1)) === 0;
}
