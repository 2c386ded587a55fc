/** Entries of several sources as one stream: in order, no path twice, and of each the newest state. */
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { type RankedEntries, newestOfEach } from "../../src/daemon/newest-of-each.js";
import type { Entry } from "../../src/engine/types.js";

const STAT = { dev: 0n, ino: 0n, sizeBytes: 0, mtimeNs: 0n, ctimeNs: 0n };
const NODE = { kind: "file", stat: STAT, mode: 0o644, uid: 0, gid: 0, linkCount: 1 } as const;

type Ranked = readonly [path: string, rank: number];

async function* entriesOf(source: string, ranked: readonly Ranked[], onEnd?: () => void): AsyncGenerator<Entry> {
  try {
    for (const [path] of ranked) yield await Promise.resolve({ source, path: path as BytePath, node: NODE });
  } finally {
    onEnd?.();
  }
}

function sourceOf(source: string, ranked: readonly Ranked[], onEnd?: () => void): RankedEntries<Entry> {
  const ranks = new Map<string, number>(ranked);
  return { entries: entriesOf(source, ranked, onEnd), rankOf: ({ path }) => ranks.get(path) ?? -1 };
}

describe("entries of several sources", () => {
  it("come in path order, each path once, in its newest state", async () => {
    const path = fc.stringMatching(/^\/[ab/-]{0,3}$/);
    const paths = fc.uniqueArray(path);
    await fc.assert(
      fc.asyncProperty(fc.array(paths, { maxLength: 4 }), fc.infiniteStream(fc.nat(99)), async (lists, ranks) => {
        const all = lists.map((list) =>
          [...list].sort((a, b) => (a < b ? -1 : 1)).map((each): Ranked => [each, ranks.next().value ?? 0]),
        );
        const found: Ranked[] = [];
        for await (const { source, path: held } of newestOfEach(all.map((list, index) => sourceOf(`${index}`, list))))
          found.push([held, all[Number(source)]?.find(([each]) => each === held)?.[1] ?? -1]);
        const newest = new Map<string, number>();
        for (const [each, rank] of all.flat()) newest.set(each, Math.max(rank, newest.get(each) ?? -1));
        expect(found).to.deep.equal([...newest].sort(([a], [b]) => (a < b ? -1 : 1)));
      }),
    );
  });

  it("are left alone when nobody wants more of them", async () => {
    let ended = 0;
    const end = (): void => void (ended += 1);
    const lists: readonly (readonly Ranked[])[] = [
      [
        ["/1", 0],
        ["/3", 0],
      ],
      [
        ["/2", 0],
        ["/4", 0],
      ],
    ];
    for await (const { path } of newestOfEach(lists.map((list) => sourceOf("any", list, end))))
      if (path === "/2") break;
    expect(ended).to.equal(2);
  });
});
