/**
 * `sqlite_wal`: a lost or broken SQLite database out of its write-ahead log (`name-wal`), which lies beside it or is
 * still held open by a process: the last stored database with all committed pages of the log laid over it, or the log
 * alone when it has every page. Whatever is committed is in it, also what no backup has. The stored database is used only
 * if it is the last good one and the log is known to go with it (`database-logs.ts`): over any other it makes ruins.
 */
import { createReadStream } from "node:fs";
import type { FileNode } from "../../engine/types.js";
import { type BytePath, pathText } from "../../base/paths.js";
import { sqliteLogMark } from "../../base/sqlite-files.js";
import { belongs } from "../database-logs.js";
import type { VersionReader } from "../ports.js";
import type { ProcessFiles } from "../proc.js";
import { fidelityByTime, msOfNs, readSmallFile, regularFileAt } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { type SqliteLog, readSqliteLog } from "./sqlite-log.js";
import { missingPages, overlaidPages } from "./sqlite-overlay.js";

const ID = "sqlite_wal";
const SUFFIX = "-wal";
/** The log is held in memory while it is laid over the database. */
const LOG_BYTES_MAX = 256 * 2 ** 20;
/** Versions among which the last good one is looked for. */
const VERSIONS_MAX = 20;

interface FoundLog {
  readonly bytes: Buffer;
  readonly origin: string;
  readonly modifiedAtMs: number;
  readonly ownerUid: number;
}

export function sqliteWalStrategy(reader: VersionReader, processes: ProcessFiles): RecoveryStrategy {
  return {
    id: ID,
    effort: "makes",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const file = `${lost.path}${SUFFIX}` as BytePath;
      const found = (await lyingBeside(file, signal)) ?? (await heldOpen(file, processes, signal));
      const log = found === undefined ? undefined : readSqliteLog(found.bytes);
      if (found === undefined) return;
      if (log === undefined) {
        search.note(`${pathText(file)} holds no committed transaction`);
        return;
      }
      const isWhole = missingPages({ log, base: undefined }) === 0;
      const base = isWhole ? undefined : await baseOf(reader, lost, { path: file, bytes: found.bytes }, signal);
      const missing = missingPages({ log, base });
      if (missing > 0) {
        const pages = `${String(missing)} of ${String(log.pageCount)} pages are missing`;
        search.note(
          `${pathText(file)}: ${pages}, and no stored database that has them is known to be the one it goes with`,
        );
        return;
      }
      yield candidateOf({ lost, log, found, base, reader });
    },
  };
}

async function lyingBeside(file: BytePath, signal: AbortSignal): Promise<FoundLog | undefined> {
  const stat = await regularFileAt(file);
  const bytes = stat === undefined ? undefined : await readSmallFile(file, LOG_BYTES_MAX, signal);
  if (stat === undefined || bytes === undefined) return undefined;
  const modifiedAtMs = msOfNs(stat.mtimeNs);
  return { bytes, origin: `write-ahead log ${pathText(file)}`, modifiedAtMs, ownerUid: Number(stat.uid) };
}

async function heldOpen(file: BytePath, processes: ProcessFiles, signal: AbortSignal): Promise<FoundLog | undefined> {
  const held = (await processes.deletedFiles(signal)).find((each) => each.path === file);
  if (held === undefined || held.sizeBytes > LOG_BYTES_MAX) return undefined;
  const parts: Buffer[] = [];
  for await (const part of createReadStream(held.link, { start: 0, end: LOG_BYTES_MAX, signal }))
    parts.push(part as Buffer);
  const origin = `write-ahead log that process ${String(held.pid)} (${held.program}) holds open`;
  return { bytes: Buffer.concat(parts), origin, modifiedAtMs: msOfNs(held.mtimeNs), ownerUid: held.uid };
}

/** The last good database, if it is stored, and the log goes with it: it has not begun anew since that was written. */
async function baseOf(
  reader: VersionReader,
  lost: LostFile,
  log: { readonly path: BytePath; readonly bytes: Buffer },
  signal: AbortSignal,
): Promise<FileNode | undefined> {
  const sha256 = lost.lastGood?.sha256;
  const mark = sqliteLogMark(log.path, log.bytes);
  if (sha256 === undefined || mark === undefined) return undefined;
  const versions = await reader.versions(lost.path, { limit: VERSIONS_MAX });
  const node = versions.find((version) => version.node?.sha256 === sha256)?.node;
  const content = { path: lost.path, sha256, isLastGood: true };
  return node !== undefined && (await belongs(reader, content, { path: log.path, mark }, signal)) ? node : undefined;
}

interface Made {
  readonly lost: LostFile;
  readonly log: SqliteLog;
  readonly found: FoundLog;
  readonly base: FileNode | undefined;
  readonly reader: VersionReader;
}

function candidateOf(made: Made): Candidate {
  const { lost, log, found, base, reader } = made;
  return {
    strategy: ID,
    origin: found.origin,
    fidelity: fidelityByTime(lost, found.modifiedAtMs),
    modifiedAtMs: found.modifiedAtMs,
    sizeBytes: log.pageCount * log.pageBytes,
    ownerUid: found.ownerUid,
    fromOwnLog: true,
    notes: [
      `${String(log.commits)} committed transactions, checksums right; ${String(log.pages.size)} of ` +
        `${String(log.pageCount)} pages from the log${base === undefined ? "" : ", the others from the last good version"}`,
    ],
    open: (signal) => overlaidPages({ log, base, bytes: found.bytes }, reader, signal),
  };
}
