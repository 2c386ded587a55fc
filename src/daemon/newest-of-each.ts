/**
 * The entries of several sources as one stream. Of a path that more than one holds, as where they overlap or one was given
 * another name, only the newest state is given: an older one would replace it.
 */
import type { Entry } from "../engine/types.js";

/** What one source has, in path order; of entries of the same path the one of the greater rank is the newer. */
export interface RankedEntries<T extends Entry> {
  readonly entries: AsyncIterable<T>;
  readonly rankOf: (entry: T) => number;
}

/** One of them as far as it was read. */
interface Reader<T extends Entry> {
  readonly rest: AsyncIterator<T>;
  readonly rankOf: (entry: T) => number;
  /** The next entry; undefined: it is at its end. */
  next: T | undefined;
}

/** In path order. */
export async function* newestOfEach<T extends Entry>(sources: readonly RankedEntries<T>[]): AsyncGenerator<Entry> {
  const [only] = sources;
  if (only !== undefined && sources.length === 1) {
    yield* only.entries;
    return;
  }
  const readers = sources.map(({ entries, rankOf }): Reader<T> => ({
    rest: entries[Symbol.asyncIterator](),
    rankOf,
    next: undefined,
  }));
  try {
    for (const reader of readers) await advance(reader);
    for (let newest = newestOfFirst(readers); newest !== undefined; newest = newestOfFirst(readers)) {
      yield newest;
      const { path } = newest;
      for (const reader of readers) if (reader.next?.path === path) await advance(reader);
    }
  } finally {
    for (const { rest } of readers) await rest.return?.();
  }
}

async function advance<T extends Entry>(reader: Reader<T>): Promise<void> {
  const step = await reader.rest.next();
  reader.next = step.done === true ? undefined : step.value;
}

/** The newest state of the path that comes first; undefined: all are at their end. */
function newestOfFirst<T extends Entry>(readers: readonly Reader<T>[]): T | undefined {
  let [first, firstRank]: [T | undefined, number] = [undefined, 0];
  for (const { next, rankOf } of readers) {
    if (next === undefined || (first !== undefined && next.path > first.path)) continue;
    const rank = rankOf(next);
    if (first === undefined || next.path < first.path || rank > firstRank) [first, firstRank] = [next, rank];
  }
  return first;
}
