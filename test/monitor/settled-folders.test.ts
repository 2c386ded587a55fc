/** What a sweep keeps of the folders that it is to compare: little of each, and nothing of what was written since. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { FolderTree } from "../../src/monitor/folder-tree.js";
import { SettledFolders } from "../../src/monitor/settled-folders.js";

const FOLDERS = 50_000;
const FILES = 100_000;
const ROOT = "/srv/data" as BytePath;

function folderAt(index: number): BytePath {
  const group = String(Math.floor(index / 100)).padStart(8, "0");
  return `${ROOT}/a-group-of-folders-with-a-long-name-${group}/folder-${String(index)}` as BytePath;
}

/** Of the heap in use, bytes. */
function usedBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().heapUsed;
}

describe("folders that a sweep is to compare", () => {
  it("cost less than a hundred bytes each, however long their paths are", () => {
    const tree = new FolderTree();
    const settled = new SettledFolders(tree, () => true);
    for (let index = 0; index < FOLDERS; index += 1) tree.set(folderAt(index), 1n);
    const beforeBytes = usedBytes();
    for (let index = 0; index < FOLDERS; index += 1)
      settled.offer({ folder: folderAt(index), digest: index * 2 ** 33 + 1, entryCount: 3 });
    expect((usedBytes() - beforeBytes) / FOLDERS).to.be.below(100);
    settled.differs(`${folderAt(1)}/file` as BytePath);
    settled.differs(folderAt(2));
    settled.settleAll(ROOT);
    const digest = (index: number): number => index * 2 ** 33 + 1;
    const holds = (index: number): boolean =>
      settled.holds({ folder: folderAt(index), digest: digest(index), entryCount: 3 });
    expect([0, 1, 2, 3, FOLDERS - 1].map(holds)).to.deep.equal([true, false, false, true, true]);
  });

  it("cost nothing more where files differ, however many do", () => {
    const tree = new FolderTree();
    const settled = new SettledFolders(tree, () => true);
    const digested = { folder: ROOT, digest: 7, entryCount: FILES };
    tree.set(ROOT, 1n);
    settled.offer(digested);
    const beforeBytes = usedBytes();
    for (let index = 0; index < FILES; index += 1) settled.differs(`${ROOT}/file-${String(index)}` as BytePath);
    expect((usedBytes() - beforeBytes) / FILES).to.be.below(5);
    settled.settleAll(ROOT);
    expect(settled.holds(digested)).to.equal(false);
    settled.offer(digested);
    settled.settleAll(ROOT);
    expect(settled.holds(digested), "nothing differs any more").to.equal(true);
  });

  it("are not settled by a comparison that began before they were written or offered anew", () => {
    const tree = new FolderTree();
    const settled = new SettledFolders(tree, () => true);
    const digested = { folder: ROOT, digest: 7, entryCount: 1 };
    tree.set(ROOT, 1n);
    settled.offer(digested);
    const offer = settled.offerOf(ROOT);
    settled.written(`${ROOT}/file` as BytePath);
    settled.offer({ ...digested });
    settled.settle(ROOT, offer);
    expect(settled.holds(digested)).to.equal(false);
    settled.settle(ROOT, settled.offerOf(ROOT));
    expect(settled.holds(digested)).to.equal(true);
  });
});
