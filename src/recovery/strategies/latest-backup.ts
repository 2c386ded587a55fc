/**
 * `latest_backup`: the versions that the repository holds of the path, newest first; or the one of a given time, an
 * SQLite database with what its log held at that time.
 * Parameters: `max_age_hours` (judged by the chain), `at` (ISO time) or `at_ms`, `max_versions`.
 */
import { isoTime } from "../../base/clock.js";
import { pathText } from "../../base/paths.js";
import type { FileNode, Version } from "../../engine/types.js";
import { type DatabaseAt, databaseAt } from "../database-at.js";
import { ParameterReader } from "../parameters.js";
import type { VersionReader } from "../ports.js";
import type { Candidate, Fidelity, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { msOfNs } from "../regular-file.js";
import { overlaidPages } from "./sqlite-overlay.js";

const ID = "latest_backup";
const VERSIONS_DEFAULT = 20;
const VERSIONS_MAX = 1000;

export function latestBackupStrategy(reader: VersionReader): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const parameters = new ParameterReader(ID, search.parameters);
      const atMs = atMsOf(parameters);
      const database = atMs === undefined ? undefined : await databaseAt(reader, lost.path, atMs, signal);
      if (database !== undefined) {
        yield databaseCandidate(reader, lost, database);
        return;
      }
      const limit = parameters.number("max_versions", { min: 1, max: VERSIONS_MAX }) ?? VERSIONS_DEFAULT;
      const versions =
        atMs === undefined ? await reader.versions(lost.path, { limit }) : [await reader.entryAt(lost.path, atMs)];
      for (const version of versions) {
        signal.throwIfAborted();
        if (version?.node?.kind === "file") yield candidateOf(reader, lost, version, version.node);
      }
    },
    advise: (lost) => Promise.resolve([`holdfast versions ${quoted(pathText(lost.path))}`]),
  };
}

function candidateOf(reader: VersionReader, lost: LostFile, version: Version, node: FileNode): Candidate {
  const time = isoTime(version.timeMs);
  return {
    strategy: ID,
    origin: `version of ${time}`,
    fidelity: fidelityOf(lost, node),
    modifiedAtMs: msOfNs(node.stat.mtimeNs),
    knownGoodAtMs: version.timeMs,
    sizeBytes: node.stat.sizeBytes,
    ...(node.sha256 === undefined ? {} : { sha256: node.sha256 }),
    notes: node.torn === true ? ["the file was being written when this version was read"] : [],
    metadata: node,
    command: `holdfast recover --file ${quoted(pathText(lost.path))} --at ${time}`,
    open: (signal) => reader.readContent(node, signal),
  };
}

/** A database of a time, with what its log held then. */
function databaseCandidate(reader: VersionReader, lost: LostFile, database: DatabaseAt): Candidate {
  const { base, log, by, timeMs, mtimeNs } = database;
  const isRolledBack = by === "journal";
  const { sha256: _digest, gitBlobId: _blob, chunks: _chunks, ...metadata } = base;
  const sizeBytes = log.pageCount * log.pageBytes;
  return {
    strategy: ID,
    origin: `version of ${isoTime(timeMs)}, with its ${isRolledBack ? "rollback journal" : "write-ahead log"}`,
    fidelity: fidelityOf(lost, base),
    modifiedAtMs: msOfNs(mtimeNs),
    knownGoodAtMs: timeMs,
    sizeBytes,
    notes: [
      isRolledBack
        ? "the transaction that was under way when the database was stored is taken back by its journal"
        : `${String(log.commits)} committed transactions of the log of that time are laid over the database as it was stored`,
    ],
    metadata: { ...metadata, stat: { ...metadata.stat, sizeBytes, mtimeNs } },
    command: `holdfast recover --file ${quoted(pathText(lost.path))} --at ${isoTime(timeMs)}`,
    open: (signal) => overlaidPages(database, reader, signal),
  };
}

function fidelityOf(lost: LostFile, node: FileNode): Fidelity {
  const good = lost.lastGood;
  if (good === undefined || (good.sha256 !== undefined && good.sha256 === node.sha256)) return "exact";
  return node.stat.mtimeNs >= good.stat.mtimeNs ? "newer" : "older";
}

function atMsOf(parameters: ParameterReader): number | undefined {
  const atMs = parameters.number("at_ms", { min: 0, max: 8.64e15 });
  const text = parameters.text("at");
  if (atMs !== undefined || text === undefined) return atMs;
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) throw parameters.wrong("at", "a time such as 2026-01-31T12:00:00Z");
  return parsed;
}

/** Text as one word of a shell command. */
export function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
