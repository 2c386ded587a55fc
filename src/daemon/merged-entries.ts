/**
 * Entries of several sources as one stream in path order. Sources may overlap: of a path that several hold, the entry of
 * the first of them is taken, for no path may be restored twice.
 */
import type { Entry } from "../engine/types.js";

/** One of the streams, with its next entry. */
interface Head {
  readonly rest: AsyncIterator<Entry>;
  entry: Entry;
}

/** Each of `streams` is in path order, without a path twice; there are as many as sources. */
export async function* mergedEntries(streams: readonly AsyncIterable<Entry>[]): AsyncGenerator<Entry> {
  const [only] = streams;
  if (only !== undefined && streams.length === 1) {
    yield* only;
    return;
  }
  const open: AsyncIterator<Entry>[] = [];
  try {
    let heads: Head[] = [];
    for (const stream of streams) {
      const rest = stream[Symbol.asyncIterator]();
      open.push(rest);
      const next = await rest.next();
      if (next.done !== true) heads.push({ rest, entry: next.value });
    }
    for (;;) {
      const first = firstOf(heads);
      if (first === undefined) return;
      const { entry } = first;
      yield entry;
      heads = await advanced(heads, entry);
    }
  } finally {
    for (const rest of open) await rest.return?.();
  }
}

/** The head with the least path; of several the first. */
function firstOf(heads: readonly Head[]): Head | undefined {
  let least: Head | undefined;
  for (const head of heads) if (least === undefined || head.entry.path < least.entry.path) least = head;
  return least;
}

/** The heads behind an entry; those that are at their end are left out. */
async function advanced(heads: readonly Head[], { path }: Entry): Promise<Head[]> {
  const left: Head[] = [];
  for (const head of heads) {
    if (head.entry.path === path) {
      const next = await head.rest.next();
      if (next.done === true) continue;
      head.entry = next.value;
    }
    left.push(head);
  }
  return left;
}
