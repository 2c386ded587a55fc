/** What a walk says of each folder as one number: whatever a file system can tell of a file has room in it. */
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { FolderDigests } from "../../src/sources/folder-digests.js";
import type { WalkedNode } from "../../src/sources/walk-tree.js";

const FOLDER = "/folder" as BytePath;
const STAT = { dev: 1n, ino: 2n, mtimeNs: 3n, ctimeNs: 4n, sizeBytes: 5 };

function digestOf(names: readonly string[], stat: Partial<WalkedNode["stat"]> = {}): number | undefined {
  const digests = new FolderDigests();
  digests.enter();
  const node = { kind: "file", stat: { ...STAT, ...stat }, mode: 0o644, uid: 0, gid: 0, linkCount: 1 } as const;
  for (const name of names) digests.add(name, node);
  digests.leave(FOLDER);
  return digests.take()[0]?.digest;
}

describe("the digest of a folder", () => {
  it("takes numbers of inodes and devices from 2^63 on, which a stat gives as negative ones", () => {
    const [low, high] = [digestOf(["a"]), digestOf(["a"], { ino: -3n, dev: -1n })];
    expect(high).to.be.a("number").and.not.to.equal(low);
    expect(high).to.equal(digestOf(["a"], { ino: 2n ** 64n - 3n, dev: 2n ** 64n - 1n }));
  });

  it("takes names of more than 255 bytes, which vfat and NTFS have, to their end and anywhere in a folder", () => {
    for (let count = 0; count < 120; count += 1) {
      const names = Array.from({ length: count }, (_none, index) => String(index).padStart(100, "n"));
      const long = "\xe4".repeat(765);
      expect(digestOf([...names, `${long}a`])).not.to.equal(digestOf([...names, `${long}b`]));
    }
  });
});
