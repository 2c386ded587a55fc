/** What is remembered of folders: whole trees are forgotten at once, and their neighbours are not. */
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { isWithin } from "../../src/base/paths.js";
import { FolderTree } from "../../src/monitor/folder-tree.js";

const at = (path: string): BytePath => path as BytePath;

describe("the tree of known folders", () => {
  it("forgets a folder with all below it, and neighbours with a longer name stay", () => {
    const tree = new FolderTree();
    for (const path of ["/a", "/a/b", "/a/b/c", "/a/bc", "/ab"]) tree.set(at(path), 1n);
    tree.forget(at("/a/b"));
    expect([...tree.entries()].map(([path]) => path)).to.have.members(["/a", "/a/bc", "/ab"]);
    expect(tree.has(at("/a/b"))).to.equal(false);
    expect(tree.size).to.equal(3);
  });

  it("does not know the folders above one it was told of", () => {
    const tree = new FolderTree();
    tree.set(at("/srv/data/in"), 7n);
    expect([tree.has(at("/srv")), tree.get(at("/srv/data/in")), tree.size]).to.deep.equal([false, 7n, 1]);
  });

  it("knows after any steps what a plain table of paths knows", () => {
    const path = fc.array(fc.constantFrom("a", "b", "ab"), { maxLength: 4 }).map((names) => at(`/${names.join("/")}`));
    const step = fc.record({ path, isForget: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const tree = new FolderTree();
        const table = new Map<BytePath, bigint>();
        for (const [index, { path: folder, isForget }] of steps.entries()) {
          if (isForget) {
            tree.forget(folder);
            for (const known of table.keys()) if (isWithin(known, folder)) table.delete(known);
          } else {
            tree.set(folder, BigInt(index));
            table.set(folder, BigInt(index));
          }
        }
        expect(new Map(tree.entries())).to.deep.equal(table);
        expect(tree.size).to.equal(table.size);
      }),
    );
  });
});
