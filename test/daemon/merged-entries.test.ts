/** Entries of several sources as one stream: in order, and no path twice. */
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { mergedEntries } from "../../src/daemon/merged-entries.js";
import type { Entry } from "../../src/engine/types.js";

const STAT = { dev: 0n, ino: 0n, sizeBytes: 0, mtimeNs: 0n, ctimeNs: 0n };
const NODE = { kind: "file", stat: STAT, mode: 0o644, uid: 0, gid: 0, linkCount: 1 } as const;

async function* streamOf(source: string, paths: readonly string[], onEnd?: () => void): AsyncGenerator<Entry> {
  try {
    for (const path of paths) yield await Promise.resolve({ source, path: path as BytePath, node: NODE });
  } finally {
    onEnd?.();
  }
}

describe("entries of several sources", () => {
  it("come in path order, each path once, from the first source that holds it", async () => {
    const path = fc.stringMatching(/^\/[ab/-]{0,3}$/);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uniqueArray(path), { maxLength: 4 }), async (lists) => {
        const sorted = lists.map((list) => [...list].sort((a, b) => (a < b ? -1 : 1)));
        const streams = sorted.map((list, index) => streamOf(String(index), list));
        const found: string[] = [];
        for await (const { source, path: held } of mergedEntries(streams)) found.push(`${held} ${source}`);
        const all = [...new Set(lists.flat())].sort((a, b) => (a < b ? -1 : 1));
        const expected = all.map((each) => `${each} ${String(lists.findIndex((list) => list.includes(each)))}`);
        expect(found).to.deep.equal(expected);
      }),
    );
  });

  it("are left alone when nobody wants more of them", async () => {
    let ended = 0;
    const end = (): void => void (ended += 1);
    const streams = [streamOf("a", ["/1", "/3"], end), streamOf("b", ["/2", "/4"], end)];
    for await (const { path } of mergedEntries(streams)) if (path === "/2") break;
    expect(ended).to.equal(2);
  });
});
