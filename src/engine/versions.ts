/** Looking at paths: what is current, what was at a time, all versions, and where the same content lies. */
import type { BytePath } from "../base/paths.js";
import type { RepositoryCore } from "./core.js";
import { type CurrentRecord, type EntryIndex, type VersionRecord, STATE_OFFSET, stateOf } from "./index/entry-index.js";
import { summaryOf } from "./tree/codec.js";
import type { DatedEntry, Entry, Version } from "./types.js";

/** Versions listed for one path unless the caller says otherwise. */
const VERSIONS_LISTED = 1000;
/** Versions looked through for a point in time; a path has at most this many. */
const VERSIONS_MAX = 1_000_000;

/** The last known state of a path: also of one that a backup no longer found and nobody removed. */
export function currentEntry(core: RepositoryCore, path: BytePath, source?: string): Entry | undefined {
  const { entries } = core.parts.catalog;
  for (const name of source === undefined ? entries.sourceNames : [source]) {
    const record = entries.current(name, path);
    if (record !== undefined) return { source: name, path, node: stateOf(record).node };
  }
  return undefined;
}

/** All last known states of a source (or of what is at and below `under`) in path order, of paths that match. */
export async function* currentEntries(
  core: RepositoryCore,
  source: string,
  under?: BytePath,
  matches: (path: BytePath) => boolean = () => true,
): AsyncGenerator<DatedEntry> {
  for await (const page of core.parts.catalog.entries.currentPages(source, under)) {
    for (const record of page) {
      if (!matches(record.path)) continue;
      const { node, timeMs } = stateOf(record);
      yield { source, path: record.path, node, timeMs };
    }
  }
}

/** The current entries of a source whose versions commits after this number made, in path order; others are not decoded. */
export async function* entriesAfter(core: RepositoryCore, source: string, seq: number): AsyncGenerator<DatedEntry> {
  for await (const page of core.parts.catalog.entries.currentPages(source)) {
    for (const record of page) {
      if (summaryOf(record.value, STATE_OFFSET).seq <= seq) continue;
      const { node, timeMs } = stateOf(record);
      yield { source, path: record.path, node, timeMs };
    }
  }
}

/** True when the last thing known of a path is that its removal was accepted; not when a backup no longer found it. */
export async function isRemoved(core: RepositoryCore, source: string, path: BytePath): Promise<boolean> {
  const { entries } = core.parts.catalog;
  if (entries.current(source, path) !== undefined) return false;
  const [last] = await entries.olderVersions(source, path, 1);
  return last !== undefined && last.state === undefined;
}

/** All versions of a path, newest first. */
export async function versionsOf(
  core: RepositoryCore,
  path: BytePath,
  options: { readonly limit?: number; readonly source?: string },
): Promise<Version[]> {
  const limit = options.limit ?? VERSIONS_LISTED;
  const found: (VersionRecord & { readonly source: string })[] = [];
  for (const source of options.source === undefined ? core.parts.catalog.entries.sourceNames : [options.source]) {
    for (const version of await recordsOf(core, source, path, limit)) found.push({ ...version, source });
  }
  found.sort((a, b) => b.seq - a.seq);
  return found.slice(0, limit).map(({ source, timeMs, state }) => ({ source, path, timeMs, node: state?.node }));
}

/** The state of a path at a time: the newest version made until then. Undefined: it was not known yet. */
export async function entryAt(
  core: RepositoryCore,
  path: BytePath,
  atMs: number,
  source?: string,
): Promise<Version | undefined> {
  const options = { limit: VERSIONS_MAX, ...(source === undefined ? {} : { source }) };
  return (await versionsOf(core, path, options)).find((version) => version.timeMs <= atMs);
}

/** Versions of one path in one source, newest first; an absence counts as a removal. */
async function recordsOf(
  core: RepositoryCore,
  source: string,
  path: BytePath,
  limit: number,
): Promise<VersionRecord[]> {
  const { entries } = core.parts.catalog;
  const record = entries.current(source, path);
  const newest = record === undefined ? [] : versionsOfCurrent(record);
  return newest.length >= limit ? newest : [...newest, ...(await entries.olderVersions(source, path, limit))];
}

/** The state of a source (or of what is at and below a path) at a time, in path order: what a restore `--at` writes. */
export async function* entriesAt(
  core: RepositoryCore,
  { source, under }: { readonly source: string; readonly under?: BytePath | undefined },
  atMs: number,
  signal: AbortSignal,
): AsyncGenerator<DatedEntry> {
  for await (const { path, versions } of pathHistories(core.parts.catalog.entries, source, signal, under)) {
    const version = versions.find(({ timeMs }) => timeMs <= atMs);
    if (version?.state !== undefined) yield { source, path, node: version.state.node, timeMs: version.timeMs };
  }
}

/** All that is known of one path: its versions newest first, the current one (if there is one) included. */
export interface PathHistory {
  readonly path: BytePath;
  readonly current: CurrentRecord | undefined;
  /** An absence stands as a removal before (newer than) the current version. */
  readonly versions: readonly VersionRecord[];
}

/**
 * The histories of all paths of a source (or of what is at and below `under`), in path order: one merge over current
 * entries and older versions.
 */
export async function* pathHistories(
  entries: EntryIndex,
  source: string,
  signal: AbortSignal,
  under?: BytePath,
): AsyncGenerator<PathHistory> {
  const current = oneByOne(entries.currentPages(source, under));
  const history = oneByOne(entries.historyPages(source, under));
  let now = await current.next();
  let past = await history.next();
  while (now.done !== true || past.done !== true) {
    signal.throwIfAborted();
    const heads = [now, past].flatMap((head) => (head.done === true ? [] : [head.value.path]));
    const path = heads.reduce((a, b) => (a < b ? a : b));
    let record: CurrentRecord | undefined;
    if (now.done !== true && now.value.path === path) {
      record = now.value;
      now = await current.next();
    }
    const versions = record === undefined ? [] : versionsOfCurrent(record);
    for (; past.done !== true && past.value.path === path; past = await history.next()) {
      versions.push(past.value.version);
    }
    yield { path, current: record, versions };
  }
}

function versionsOfCurrent(record: CurrentRecord): VersionRecord[] {
  const state = stateOf(record);
  const current = { seq: state.seq, timeMs: state.timeMs, state };
  if (state.absentSinceMs === undefined) return [current];
  return [{ seq: state.seq + 0.5, timeMs: state.absentSinceMs, state: undefined }, current];
}

async function* oneByOne<T>(pages: AsyncIterable<readonly T[]>): AsyncGenerator<T, undefined> {
  for await (const page of pages) yield* page;
  return undefined;
}
