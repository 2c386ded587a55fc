/**
 * Whether the rollback journal of an SQLite database was lost while it was needed. SQLite puts a journal away when its
 * transaction was committed or rolled back; one that is removed before that leaves the database half written. Told apart
 * by content: a journal holds the pages as they were. A database that has them again was rolled back; one whose change
 * counter is another than on the first page in the journal was committed. In doubt SQLite did it: a journal that is put
 * back wrongly would undo what was committed. Layout as in sqlite.org/fileformat2.html, section 3.
 */
import { fstatSync, readSync } from "node:fs";
import { SQLITE_JOURNAL_MAGIC } from "../../base/sqlite-files.js";
import { turn } from "../look.js";

/** Of a longer journal the beginning is looked at: whatever differs there is enough. */
export const JOURNAL_BYTES_MAX = 16 * 2 ** 20;

const HEADER_BYTES = 28;
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;
const SECTOR_BYTES_MIN = 32;
/** Before and behind the page in a record: its number and its checksum, bytes. */
const NUMBER_BYTES = 4;
const FRAME_BYTES = 8;
/** A count that says "as many as there are". */
const COUNT_UNKNOWN = 0xffff_ffff;
/** Where the first page of a database counts its transactions. */
const CHANGE_COUNTER = { from: 24, to: 28 } as const;
/** Pages compared before others get a turn. */
const SLICE = 256;

interface JournalHeader {
  readonly count: number;
  /** Pages of the database before the transaction. */
  readonly pageCount: number;
  readonly sectorBytes: number;
  readonly pageBytes: number;
}

interface OriginalPage {
  /** Counts from 1. */
  readonly number: number;
  readonly content: Buffer;
}

/**
 * True when the database `fd` stands as only a transaction under way leaves it, and `journal`, as it was last known, is
 * what would undo that. `knownFromMs`: the journal was read then or later; wall ms.
 */
export async function isNeededJournal(journal: Buffer, fd: number, knownFromMs: number): Promise<boolean> {
  const header = headerAt(journal, 0);
  if (header === undefined) return false; // the database is not written before the journal has its header
  const stats = fstatSync(fd, { bigint: true });
  let isHalfWritten = stats.size > BigInt(header.pageCount) * BigInt(header.pageBytes);
  let hasFirstPage = false;
  let count = 0;
  for (const { number, content } of originalPages(journal, header)) {
    const standing = pageOf(fd, number, header.pageBytes);
    if (number === 1) {
      hasFirstPage = true;
      if (!counterOf(standing).equals(counterOf(content))) return false;
    }
    isHalfWritten ||= !standing.equals(content);
    if ((count += 1) % SLICE === 0) await turn();
  }
  // A commit that came later has put the first page into the journal, and then written the database.
  return isHalfWritten && (hasFirstPage || Number(stats.ctimeNs / 1_000_000n) < knownFromMs);
}

/** The pages that a journal holds, as far as its parts make sense. */
function* originalPages(journal: Buffer, first: JournalHeader): Generator<OriginalPage> {
  const { pageBytes, sectorBytes } = first;
  for (let start = 0, header: JournalHeader | undefined = first; header !== undefined;) {
    let at = start + sectorBytes;
    for (let index = 0; index < header.count && at + FRAME_BYTES + pageBytes <= journal.length; index += 1) {
      const number = journal.readUInt32BE(at);
      const from = at + NUMBER_BYTES;
      if (number === 0) return;
      yield { number, content: journal.subarray(from, from + pageBytes) };
      at += FRAME_BYTES + pageBytes;
    }
    start = Math.ceil(at / sectorBytes) * sectorBytes;
    header = headerAt(journal, start);
  }
}

function headerAt(journal: Buffer, start: number): JournalHeader | undefined {
  if (start + HEADER_BYTES > journal.length) return undefined;
  const bytes = journal.subarray(start, start + HEADER_BYTES);
  if (!bytes.subarray(0, SQLITE_JOURNAL_MAGIC.length).equals(SQLITE_JOURNAL_MAGIC)) return undefined;
  const [sectorBytes, pageBytes] = [bytes.readUInt32BE(20), bytes.readUInt32BE(24)];
  const isSound = isPowerWithin(sectorBytes, SECTOR_BYTES_MIN) && isPowerWithin(pageBytes, PAGE_BYTES_MIN);
  const count = bytes.readUInt32BE(8);
  if (!isSound || count === 0) return undefined;
  return {
    count: count === COUNT_UNKNOWN ? Infinity : count,
    pageCount: bytes.readUInt32BE(16),
    sectorBytes,
    pageBytes,
  };
}

function isPowerWithin(value: number, min: number): boolean {
  return value >= min && value <= PAGE_BYTES_MAX && (value & (value - 1)) === 0;
}

/** Shorter when the database ends before. */
function pageOf(fd: number, number: number, pageBytes: number): Buffer {
  const page = Buffer.alloc(pageBytes);
  return page.subarray(0, readSync(fd, page, 0, pageBytes, (number - 1) * pageBytes));
}

function counterOf(page: Buffer): Buffer {
  return page.subarray(CHANGE_COUNTER.from, CHANGE_COUNTER.to);
}
