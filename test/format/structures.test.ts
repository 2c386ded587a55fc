/**
 * The bytes of docs/repository-format.md, written out by hand from that page: what other programs rely on. A change
 * here is a change of the format.
 */
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { encodeFragment } from "../../src/engine/index/fragments.js";
import { TreeBuilder } from "../../src/engine/tree/builder.js";
import { ByteReader } from "../../src/engine/tree/bytes.js";
import { encodeState, readState } from "../../src/engine/tree/codec.js";
import { encodeDelta } from "../../src/engine/tree/delta.js";
import type { ChunkId, FileNode } from "../../src/engine/types.js";

const ID = "ab".repeat(32) as ChunkId;
const hex = (...parts: readonly string[]): string => parts.join("").replace(/ /g, "");

const file: FileNode = {
  kind: "file",
  stat: { dev: 1n, ino: 2n, mtimeNs: -1n, ctimeNs: 3n, sizeBytes: 300 },
  mode: 0o644,
  uid: 0,
  gid: 1000,
  linkCount: 1,
  sha256: "cd".repeat(32),
  chunks: [{ id: ID, lengthBytes: 300 }],
  xattrs: new Map([["user.x", Buffer.from("v")]]),
};

/** Version, flags (SHA-256, attributes, chunks), kind; stat; time 1, number 2, mode, owner, group, names; the rest. */
const FILE_HEX = hex(
  "01 85 00",
  "0100000000000000 0200000000000000 ffffffffffffffff 0300000000000000 2c01000000000000",
  "01 02 a403 00 e807 01",
  "cd".repeat(32),
  "01",
  ID,
  "ac02",
  "01 06 757365722e78 01 76",
);

describe("the format of", () => {
  it("an entry state", () => {
    expect(encodeState({ node: file, timeMs: 1, seq: 2 }).toString("hex")).to.equal(FILE_HEX);
  });

  it("an entry state with all that can stand above the permission bits", () => {
    const word = (node: Partial<FileNode>, mtimeNs: bigint): string => {
      const state = encodeState({ node: { ...file, stat: { ...file.stat, mtimeNs }, ...node }, timeMs: 1, seq: 2 });
      expect(readState(new ByteReader(state)).node).to.deep.equal({ ...file, stat: { ...file.stat, mtimeNs }, ...node });
      return state.toString("hex");
    };
    const withWord = (lowNs: string, mode: string): string =>
      FILE_HEX.replace("ffffffffffffffff", lowNs).replace("0102a40300", `0102${mode}00`);
    expect(word({ sparse: true }, -1n)).to.equal(withWord("ffffffffffffffff", "a48304"));
    expect(word({ inodeFlags: ["immutable"] }, -1n)).to.equal(withWord("ffffffffffffffff", "a48308"));
    expect(word({ inodeFlags: ["append_only", "no_dump"] }, -1n)).to.equal(withWord("ffffffffffffffff", "a48330"));
    expect(word({}, 2n ** 64n + 5n)).to.equal(withWord("0500000000000000", "a4838001"));
    expect(word({}, -(2n ** 64n) - 1n)).to.equal(withWord("ffffffffffffffff", "a48340"));
  });

  it("an absent symbolic link", () => {
    const stat = { dev: 0n, ino: 0n, mtimeNs: 0n, ctimeNs: 0n, sizeBytes: 0 };
    const node = { kind: "symlink", stat, mode: 0o777, uid: 0, gid: 0, linkCount: 1, linkTarget: "a/\xff" } as const;
    const bytes = encodeState({ node, timeMs: 1, seq: 2, absentSinceMs: 128 });
    expect(bytes.toString("hex")).to.equal(hex("01 48 02", "00".repeat(40), "01 02 8001 ff03 00 00 01 03 612fff"));
  });

  it("a delta", () => {
    const upsert = { kind: "upsert", path: "/f" as BytePath, state: { node: file, timeMs: 1, seq: 2 } } as const;
    const remove = { kind: "remove", path: "/g" as BytePath } as const;
    const bytes = encodeDelta({ source: "é", seq: 2, timeMs: 1, changes: [upsert, remove] });
    expect(bytes.toString("hex")).to.equal(hex("01 02 c3a9 02 01 02", "01 02 2f66", FILE_HEX, "00 02 2f67"));
  });

  it("an index fragment", () => {
    const chunk = { type: "chunk", id: ID, offsetBytes: 48, recordBytes: 200, plainBytes: 300 } as const;
    const inner = [{ id: ID, offsetBytes: 40, lengthBytes: 5 }];
    const bundle = { type: "bundle", id: ID, offsetBytes: 248, recordBytes: 90, plainBytes: 45, inner } as const;
    const pack = { kind: "d", sha256: "12".repeat(32), sizeBytes: 500, entries: [chunk, bundle] } as const;
    expect(encodeFragment({ packs: [pack], supersedes: [ID] }).toString("hex")).to.equal(
      hex(
        ...["01 01", ID, "01 64", "12".repeat(32), "f403 02"],
        ...["01", ID, "30 c801 ac02 00", "02", ID, "f801 5a 2d 01", ID, "28 05"],
      ),
    );
  });

  it("a leaf and an inner tree node, and where nodes end", async () => {
    const nodes: Buffer[] = [];
    const builder = new TreeBuilder(async (bytes) => {
      nodes.push(bytes);
      return await Promise.resolve(ID);
    });
    await builder.add("/a/one" as BytePath, Buffer.from("v1"));
    await builder.add("/a/two" as BytePath, Buffer.alloc(66_000, 120));
    await builder.finish();
    expect(nodes[0]?.toString("hex")).to.equal(hex("01 00 01 00 06 2f612f6f6e65 02 7631"));
    expect(nodes[1]?.subarray(0, 13).toString("hex")).to.equal(hex("01 00 01 00 06 2f612f74776f d083"));
    expect(nodes[2]?.toString("hex")).to.equal(
      hex("01 01 02", "00 06 2f612f6f6e65", ID, "01", "03 03 74776f", ID, "01"),
    );
  });
});
