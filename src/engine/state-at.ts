/**
 * A source as it was at a time: of every path the newest version that is not younger, in path order. It is one merge
 * over the catalog's current entries and its history, so that it costs what the source has versions, and no memory.
 */
import type { BytePath } from "../base/paths.js";
import { type EntryIndex, type VersionRecord, stateOf } from "./index/entry-index.js";
import type { EntryState } from "./tree/codec.js";
import type { Entry } from "./types.js";

/** The entries of a source at `atMs` (wall ms), in byte order of the paths. */
export async function* entriesAt(entries: EntryIndex, source: string, atMs: number): AsyncGenerator<Entry> {
  const history = new Lookahead(flatten(entries.historyPages(source)));
  for await (const page of entries.currentPages(source)) {
    for (const record of page) {
      yield* removedBefore(history, source, record.path, atMs);
      const older = await newestOf(history, record.path, atMs);
      const state = stateOf(record);
      const chosen = state.timeMs <= atMs ? state : older?.state;
      if (chosen !== undefined && isPresent(chosen, atMs)) yield { source, path: record.path, node: chosen.node };
    }
  }
  yield* removedBefore(history, source, undefined, atMs);
}

/** Paths that have a history but no current entry, up to (not including) `end`. */
async function* removedBefore(
  history: Lookahead<PathVersion>,
  source: string,
  end: BytePath | undefined,
  atMs: number,
): AsyncGenerator<Entry> {
  for (let next = await history.peek(); next !== undefined; next = await history.peek()) {
    const { path } = next;
    if (end !== undefined && path >= end) return;
    const version = await newestOf(history, path, atMs);
    if (version?.state !== undefined && isPresent(version.state, atMs))
      yield { source, path, node: version.state.node };
  }
}

/** Consumes the history of a path; gives its newest version that is not younger than the time. */
async function newestOf(
  history: Lookahead<PathVersion>,
  path: BytePath,
  atMs: number,
): Promise<VersionRecord | undefined> {
  let newest: VersionRecord | undefined;
  for (let next = await history.peek(); next?.path === path; next = await history.peek()) {
    history.skip();
    if (next.version.timeMs <= atMs) newest ??= next.version; // newest first within a path
  }
  return newest;
}

function isPresent(state: EntryState, atMs: number): boolean {
  return state.absentSinceMs === undefined || state.absentSinceMs > atMs;
}

interface PathVersion {
  readonly path: BytePath;
  readonly version: VersionRecord;
}

async function* flatten<T>(pages: AsyncIterable<readonly T[]>): AsyncGenerator<T> {
  for await (const page of pages) yield* page;
}

/** Looks at the next item without taking it. */
class Lookahead<T> {
  readonly #items: AsyncIterator<T>;
  #next: Promise<T | undefined> | undefined;

  constructor(items: AsyncIterable<T>) {
    this.#items = items[Symbol.asyncIterator]();
  }

  async peek(): Promise<T | undefined> {
    this.#next ??= this.#items.next().then((result) => (result.done === true ? undefined : result.value));
    return await this.#next;
  }

  skip(): void {
    this.#next = undefined;
  }
}
