/**
 * Whether the rollback journal of an SQLite database was lost while it was needed. SQLite puts a journal away when its
 * transaction was committed or rolled back; one that is removed before that leaves the database half written. Told apart
 * by content: a journal holds the pages as they were. A database that has them again was rolled back; one whose change
 * counter is another than on the first page in the journal was committed. In doubt SQLite did it: a journal that is put
 * back wrongly would undo what was committed. Layout as in sqlite.org/fileformat2.html, section 3.
 */
import { fstatSync, readSync } from "node:fs";
import { journalHeaderAt, originalPages, SQLITE_CHANGE_COUNTER } from "../../base/sqlite-journal.js";
import { turn } from "../look.js";

/** Of a longer journal the beginning is looked at: whatever differs there is enough. */
export const JOURNAL_BYTES_MAX = 16 * 2 ** 20;

/** Pages compared before others get a turn. */
const SLICE = 256;

/**
 * True when the database `fd` stands as only a transaction under way leaves it, and `journal`, as it was last known, is
 * what would undo that. `knownFromMs`: the journal was read then or later; wall ms.
 */
export async function isNeededJournal(journal: Buffer, fd: number, knownFromMs: number): Promise<boolean> {
  const header = journalHeaderAt(journal, 0);
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

/** Shorter when the database ends before. */
function pageOf(fd: number, number: number, pageBytes: number): Buffer {
  const page = Buffer.alloc(pageBytes);
  return page.subarray(0, readSync(fd, page, 0, pageBytes, (number - 1) * pageBytes));
}

function counterOf(page: Buffer): Buffer {
  return page.subarray(SQLITE_CHANGE_COUNTER.from, SQLITE_CHANGE_COUNTER.to);
}
