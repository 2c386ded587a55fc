/**
 * The entries of several sources as one stream. Of a path that more than one holds, as where they overlap or one was given
 * another name, only the newest state is given: an older one would replace it.
 */
import type { Entry } from "../engine/types.js";

/** An entry with its rank among those of the same path: the greater, the newer. */
export interface RankedEntry {
  readonly entry: Entry;
  readonly rank: number;
}

/** In path order, as each of the streams must be. */
export async function* newestOfEach(streams: readonly AsyncIterable<RankedEntry>[]): AsyncGenerator<Entry> {
  const [only] = streams;
  if (only !== undefined && streams.length === 1) {
    for await (const { entry } of only) yield entry;
    return;
  }
  const iterators = streams.map((stream) => stream[Symbol.asyncIterator]());
  try {
    const heads: IteratorResult<RankedEntry, unknown>[] = [];
    for (const iterator of iterators) heads.push(await iterator.next());
    for (;;) {
      const newest = newestOfFirst(heads);
      if (newest === undefined) return;
      for (const [index, iterator] of iterators.entries())
        if (entryAt(heads[index])?.path === newest.path) heads[index] = await iterator.next();
      yield newest;
    }
  } finally {
    for (const iterator of iterators) await iterator.return?.();
  }
}

/** The newest state of the path that comes first; undefined: all streams are at their end. */
function newestOfFirst(heads: readonly IteratorResult<RankedEntry, unknown>[]): Entry | undefined {
  let first: RankedEntry | undefined;
  for (const head of heads) {
    if (head.done === true) continue;
    const { entry, rank } = head.value;
    const isNewer =
      first === undefined || (entry.path === first.entry.path ? rank > first.rank : entry.path < first.entry.path);
    if (isNewer) first = head.value;
  }
  return first?.entry;
}

function entryAt(head: IteratorResult<RankedEntry, unknown> | undefined): Entry | undefined {
  return head === undefined || head.done === true ? undefined : head.value.entry;
}
