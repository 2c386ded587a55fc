/**
 * Keeps an SQLite database and its logs together when one of them is put back (base/sqlite-files.ts). A log stays beside
 * a database only if the repository shows that both stood together: a version of the log that was current while that
 * content of the database was, and has not begun anew since. Any other is renamed beside its place before the database
 * appears, and told; nothing of it is removed.
 */
import { openAnchored } from "../base/anchored.js";
import { type BytePath, joinPath, nameOf, parentPath, pathText } from "../base/paths.js";
import {
  SQLITE_LOG_HEADER_BYTES,
  type SqliteLogMark,
  databaseOfLog,
  logsOfDatabase,
  sqliteLogMark,
} from "../base/sqlite-files.js";
import type { FileNode, StatTuple, Version } from "../engine/types.js";
import { anchoredStat, readAnchored } from "./anchored-file.js";
import { isSameFile } from "./place.js";
import { tupleOf } from "./place-parents.js";
import type { VersionReader } from "./ports.js";
import { keepBeside } from "./staging.js";

/** Versions of a database, and of a log, that are looked through; what is older counts as unknown. */
const VERSIONS_MAX = 200;
/** What Linux allows. */
const NAME_BYTES_MAX = 255;
/** Stored logs whose first bytes are read for one question. */
const HEADERS_READ_MAX = 20;

/** A log that lies beside the place of a database and would be replayed into it. */
export interface LogBeside {
  readonly path: BytePath;
  readonly stat: StatTuple;
  readonly mark: SqliteLogMark;
}

/** Content that is to stand at a path. */
export interface DatabaseContent {
  readonly path: BytePath;
  /** undefined: nobody knows it yet. */
  readonly sha256: string | undefined;
  /** It is the last good content. */
  readonly isLastGood: boolean;
}

/** Those logs beside a database that do not belong to that content of it. */
export async function foreignLogs(
  reader: VersionReader,
  root: BytePath,
  content: DatabaseContent,
  signal: AbortSignal,
): Promise<readonly LogBeside[]> {
  const foreign: LogBeside[] = [];
  for (const path of logsOfDatabase(content.path)) {
    const log = await logAt(root, path, signal);
    if (log !== undefined && !(await belongs(reader, content, log, signal))) foreign.push(log);
  }
  return foreign;
}

/** Whether the repository shows that a log and that content of its database stood together, and are of one piece still. */
export async function belongs(
  reader: VersionReader,
  content: DatabaseContent,
  log: Pick<LogBeside, "path" | "mark">,
  signal: AbortSignal,
): Promise<boolean> {
  const stored = await storedBeside(reader, content, log.path);
  for (const node of stored.slice(0, HEADERS_READ_MAX)) {
    const header = await headerOf(reader.readContent(node, signal), signal);
    if (sqliteLogMark(log.path, header)?.generation === log.mark.generation) return true;
  }
  // A log that was made after the last look at its database, and holds all that was committed since.
  return stored.length === 0 && content.isLastGood && log.mark.isFirst;
}

/**
 * Why a log must not be put at its place: the database that stands there has changed since the log was stored, by a
 * program that did without it. A database whose content nobody knows (encrypted, damaged) is no reason for a person.
 */
export async function reasonAgainstLog(
  reader: VersionReader,
  log: { readonly path: BytePath; readonly sha256: string | undefined },
  standingSha256: string | undefined,
  byPerson: boolean,
): Promise<string | undefined> {
  const path = databaseOfLog(log.path);
  if (path === undefined || standingSha256 === undefined) return undefined;
  const ofDatabase = await reader.versions(path, { limit: VERSIONS_MAX });
  const ofLog = await reader.versions(log.path, { limit: VERSIONS_MAX });
  const isStanding = ({ node }: Version): boolean => node?.sha256 === standingSha256;
  // Both of one commit have one time.
  const standsSinceMs = ofDatabase.find(isStanding)?.timeMs;
  const storedAtMs = ofLog.find(({ node }) => node !== undefined && node.sha256 === log.sha256)?.timeMs;
  if (standsSinceMs !== undefined && storedAtMs !== undefined && standsSinceMs <= storedAtMs) return undefined;
  if (standsSinceMs === undefined && byPerson) return undefined;
  return `${pathText(path)} stands, and has changed since this log was written: SQLite would replay it into the database`;
}

/** A log out of the way of a database. */
export class LogsSetAside {
  readonly #root: BytePath;
  readonly #moved: { readonly from: BytePath; readonly to: BytePath }[] = [];

  constructor(root: BytePath) {
    this.#root = root;
  }

  /** What people are told; empty when nothing was moved. */
  get notes(): readonly string[] {
    return this.#moved.map(
      ({ from, to }) =>
        `${pathText(from)} was written for another state of the database; it is kept at ${pathText(to)}`,
    );
  }

  /** False: it is not the log any more that was looked at. */
  take({ path, stat }: LogBeside): boolean {
    const folder = openAnchored(this.#root, parentPath(path));
    try {
      const name = nameOf(path);
      const found = folder.lstat(name);
      if (found === undefined || !isSameFile(tupleOf(found), stat)) return false;
      this.#moved.push({ from: path, to: joinPath(folder.path, keepBeside(folder, name, name)) });
      return true;
    } finally {
      folder.close();
    }
  }

  /** The database was not put there after all. */
  putBack(): void {
    for (const { from, to } of this.#moved.splice(0)) {
      const folder = openAnchored(this.#root, parentPath(from));
      try {
        folder.renameToFree(nameOf(to), folder, nameOf(from));
      } finally {
        folder.close();
      }
    }
  }
}

async function logAt(root: BytePath, path: BytePath, signal: AbortSignal): Promise<LogBeside | undefined> {
  // The name of a database may be as long as names can be: then it has no log.
  const stat = nameOf(path).length > NAME_BYTES_MAX ? undefined : anchoredStat(root, path);
  if (stat === undefined) return undefined;
  const mark = sqliteLogMark(path, await headerOf(readAnchored(root, path, signal), signal));
  return mark === undefined ? undefined : { path, stat: tupleOf(stat), mark };
}

/** Stored states of a log that were current while the database had that content, newest first. */
async function storedBeside(
  reader: VersionReader,
  { path, sha256 }: Pick<DatabaseContent, "path" | "sha256">,
  log: BytePath,
): Promise<readonly FileNode[]> {
  if (sha256 === undefined) return [];
  const [ofDatabase, ofLog] = [
    await reader.versions(path, { limit: VERSIONS_MAX }),
    await reader.versions(log, { limit: VERSIONS_MAX }),
  ];
  const spans = spansOf(ofDatabase).filter(({ node }) => node?.sha256 === sha256);
  return spansOf(ofLog).flatMap(({ node, fromMs, toMs }) => {
    const isBeside = spans.some((span) => fromMs < span.toMs && toMs > span.fromMs);
    return node?.kind === "file" && isBeside ? [node] : [];
  });
}

/** From when to when each version was current, wall ms; versions of one commit begin together. */
function spansOf(
  versions: readonly Version[],
): readonly (Pick<Version, "node"> & { readonly fromMs: number; readonly toMs: number })[] {
  return versions.map(({ node, timeMs }, index) => ({
    node,
    fromMs: timeMs,
    toMs: versions[index - 1]?.timeMs ?? Infinity,
  }));
}

/** The first bytes; fewer when there are no more, or they cannot be read. */
async function headerOf(content: AsyncIterable<Buffer>, signal: AbortSignal): Promise<Buffer> {
  let header = Buffer.alloc(0);
  try {
    for await (const part of content) {
      header = Buffer.concat([header, part.subarray(0, SQLITE_LOG_HEADER_BYTES)]);
      if (header.length >= SQLITE_LOG_HEADER_BYTES) break;
    }
  } catch (error) {
    if (signal.aborted) throw error;
  }
  return header;
}
