/** The tree's codecs and algorithms: round trips, hostile bytes, splitting that keeps, and differences. */
import { expect } from "chai";
import fc from "fast-check";
import { createHash } from "node:crypto";
import { HoldfastError, hasCode } from "../../src/base/errors.js";
import type { BytePath } from "../../src/base/paths.js";
import { decodeFragment, encodeFragment } from "../../src/engine/index/fragments.js";
import { decodeLocations, encodeLocations } from "../../src/engine/index/locations.js";
import { TreeBuilder, type TreeRoot } from "../../src/engine/tree/builder.js";
import { evenPaths } from "../../src/engine/tree/even-paths.js";
import { ByteReader } from "../../src/engine/tree/bytes.js";
import { type EntryState, encodeState, looksUnchanged, readState, summaryOf } from "../../src/engine/tree/codec.js";
import { decodeDelta, encodeDelta } from "../../src/engine/tree/delta.js";
import { decodeNode } from "../../src/engine/tree/node.js";
import { chunksOfState } from "../../src/engine/tree/skim.js";
import { diffTrees, treeLeaves, visitNodes } from "../../src/engine/tree/reader.js";
import { type ChunkId, type FileNode, NODE_KINDS } from "../../src/engine/types.js";
import { UNLIMITED } from "../support/engine-rig.js";

const hexArb = (bytes: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => Buffer.from(value).toString("hex"));
const idArb = hexArb(32).map((id) => id as ChunkId);
const bytesTextArb = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value).toString("latin1"));
const pathArb = fc
  .array(fc.constantFrom("a", "b", "ab", "\xff", "x-y", "z.0"), { minLength: 1, maxLength: 5 })
  .map((names) => `/${names.join("/")}` as BytePath);
const uint64 = { min: 0n, max: 2n ** 64n - 1n };
const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };
const nodeArb: fc.Arbitrary<FileNode> = fc.record(
  {
    kind: fc.constantFrom(...NODE_KINDS),
    stat: fc.record({
      dev: fc.bigInt(uint64),
      ino: fc.bigInt(uint64),
      sizeBytes: fc.maxSafeNat(),
      mtimeNs: fc.bigInt(int64),
      ctimeNs: fc.bigInt(int64),
    }),
    mode: fc.nat(0o7777),
    uid: fc.nat(2 ** 31 - 1),
    gid: fc.nat(2 ** 31 - 1),
    linkCount: fc.nat(70_000),
    sha256: hexArb(32),
    gitBlobId: hexArb(20),
    chunks: fc.array(fc.record({ id: hexArb(32).map((id) => id as ChunkId), lengthBytes: fc.nat(2 ** 20) }), {
      maxLength: 6,
    }),
    linkTarget: bytesTextArb,
    xattrs: fc
      .array(fc.tuple(bytesTextArb, fc.uint8Array({ maxLength: 30 })), { maxLength: 4 })
      .map((pairs) => new Map<string, Uint8Array>(pairs)),
    device: fc.record({ major: fc.nat(4095), minor: fc.nat(2 ** 20) }),
    torn: fc.constant(true as const),
  },
  { requiredKeys: ["kind", "stat", "mode", "uid", "gid", "linkCount"] },
);
const stateArb: fc.Arbitrary<EntryState> = fc.record(
  { node: nodeArb, timeMs: fc.maxSafeNat(), seq: fc.maxSafeNat(), absentSinceMs: fc.maxSafeNat() },
  { requiredKeys: ["node", "timeMs", "seq"] },
);

/** Nodes kept in memory. */
class NodeStore {
  readonly nodes = new Map<ChunkId, Buffer>();
  loads = 0;

  readonly store = async (bytes: Buffer): Promise<ChunkId> => {
    const id = createHash("sha256").update(bytes).digest("hex") as ChunkId;
    this.nodes.set(id, bytes);
    return await Promise.resolve(id);
  };

  readonly load = async (id: ChunkId): Promise<Buffer> => {
    this.loads += 1;
    const bytes = this.nodes.get(id);
    if (bytes === undefined) throw new HoldfastError("CHUNK_MISSING", id);
    return await Promise.resolve(bytes);
  };

  async build(entries: ReadonlyMap<string, string>): Promise<TreeRoot> {
    const builder = new TreeBuilder(this.store);
    for (const path of [...entries.keys()].sort()) {
      await builder.add(path as BytePath, Buffer.from(entries.get(path) ?? "", "latin1"));
    }
    return await builder.finish();
  }

  async read(root: ChunkId, under?: BytePath): Promise<Map<string, string>> {
    const entries = new Map<string, string>();
    for await (const leaf of treeLeaves(this.load, root, under, UNLIMITED)) {
      for (const { path, value } of leaf) entries.set(path, value.toString("latin1"));
    }
    return entries;
  }
}

/** Many entries of a realistic size. */
function manyEntries(count: number): Map<string, string> {
  const entries = new Map<string, string>();
  for (let index = 0; index < count; index += 1) {
    const digest = createHash("sha256").update(String(index)).digest().toString("latin1");
    entries.set(`/srv/data/folder-${String(index % 97)}/file-${String(index)}.txt`, digest.repeat(5));
  }
  return entries;
}

function neverCrashes(decode: (bytes: Buffer) => unknown): (bytes: Uint8Array) => void {
  return (bytes) => {
    try {
      decode(Buffer.from(bytes));
    } catch (error) {
      if (!hasCode(error, "RECORD_DAMAGED")) throw error;
    }
  };
}

describe("entry states", () => {
  it("come back from their bytes as they were", () => {
    fc.assert(
      fc.property(stateArb, (state) => {
        const reader = new ByteReader(encodeState(state));
        expect(readState(reader)).to.deep.equal({
          ...state,
          node: {
            ...state.node,
            ...(state.node.xattrs === undefined
              ? {}
              : { xattrs: new Map([...state.node.xattrs].sort(([a], [b]) => (a < b ? -1 : 1))) }),
          },
        });
        expect(reader.remaining).to.equal(0);
      }),
    );
  });

  it("can be summed up and compared with a stat without decoding", () => {
    fc.assert(
      fc.property(stateArb, (state) => {
        const encoded = Buffer.concat([Buffer.alloc(4), encodeState(state)]);
        const { node } = state;
        const summary = summaryOf(encoded, 4);
        expect({ ...summary, sha256: summary.sha256?.toString("hex") }).to.deep.equal({
          ...{ kind: node.kind, sizeBytes: node.stat.sizeBytes, seq: state.seq, mode: node.mode },
          sha256: node.sha256,
        });
        expect(looksUnchanged(encoded, 4, node.kind, node.stat)).to.equal(true);
        expect(looksUnchanged(encoded, 4, node.kind, { ...node.stat, ctimeNs: node.stat.ctimeNs ^ 1n })).to.equal(
          false,
        );
        expect(looksUnchanged(encoded, 4, node.kind, { ...node.stat, ino: node.stat.ino ^ 1n })).to.equal(false);
      }),
    );
  });

  it("are gone over with the same verdict as when they are read, and show the same chunks", () => {
    const verdict = (work: () => readonly string[]): readonly string[] | undefined => {
      try {
        return work();
      } catch (error) {
        expect(hasCode(error, "RECORD_DAMAGED")).to.equal(true);
        return undefined;
      }
    };
    const hurtArb = fc.record({ at: fc.nat(), byte: fc.nat(255), cut: fc.nat(60) });
    fc.assert(
      fc.property(stateArb, fc.option(hurtArb), (state, hurt) => {
        const bytes = encodeState(state);
        if (hurt !== null) bytes[hurt.at % bytes.length] = hurt.byte;
        const stored = hurt === null ? bytes : bytes.subarray(0, bytes.length - Math.max(0, hurt.cut - 30));
        const read = verdict(() => (readState(new ByteReader(stored)).node.chunks ?? []).map(({ id }) => id));
        const seen = verdict(() => {
          const ids: string[] = [];
          chunksOfState(stored, 0, (where, at) => ids.push(where.toString("hex", at, at + 32)));
          return ids;
        });
        expect(seen).to.deep.equal(read);
      }),
      { numRuns: 500 },
    );
  });

  it("have the same bytes whatever the order of their attributes", () => {
    const xattrs: [string, Uint8Array][] = [
      ["user.b", Buffer.from("1")],
      ["user.a", Buffer.from("2")],
    ];
    const stat = { dev: 1n, ino: 2n, sizeBytes: 3, mtimeNs: 4n, ctimeNs: 5n };
    const node = { kind: "file", stat, mode: 0o644, uid: 0, gid: 0, linkCount: 1 } as const;
    const one = encodeState({ node: { ...node, xattrs: new Map(xattrs) }, timeMs: 1, seq: 1 });
    const other = encodeState({ node: { ...node, xattrs: new Map([...xattrs].reverse()) }, timeMs: 1, seq: 1 });
    expect(one.equals(other)).to.equal(true);
  });
});

describe("deltas, fragments, locations", () => {
  it("come back from their bytes as they were", () => {
    const changeArb = fc.oneof(
      fc.record({ kind: fc.constant("remove" as const), path: pathArb }),
      fc.record({
        kind: fc.constant("upsert" as const),
        path: pathArb,
        state: stateArb.filter(({ node }) => (node.xattrs?.size ?? 0) < 2),
      }),
    );
    const deltaArb = fc.record({
      source: fc.string({ unit: "grapheme" }),
      seq: fc.maxSafeNat(),
      timeMs: fc.maxSafeNat(),
      changes: fc.array(changeArb, { maxLength: 5 }),
    });
    fc.assert(
      fc.property(deltaArb, (delta) => {
        expect(decodeDelta(encodeDelta(delta))).to.deep.equal(delta);
      }),
    );
    const innerArb = fc.array(fc.record({ id: idArb, offsetBytes: fc.nat(), lengthBytes: fc.nat() }), {
      minLength: 1,
      maxLength: 3,
    });
    const entryArb = fc.record(
      {
        type: fc.constantFrom("chunk" as const, "bundle" as const, "tree_node" as const),
        id: idArb,
        offsetBytes: fc.nat(),
        recordBytes: fc.nat(),
        plainBytes: fc.nat(),
        inner: innerArb,
      },
      { requiredKeys: ["type", "id", "offsetBytes", "recordBytes", "plainBytes"] },
    );
    const packArb = fc.record({
      kind: fc.constantFrom("d" as const, "m" as const),
      sha256: hexArb(32),
      sizeBytes: fc.nat(),
      entries: fc.array(entryArb, { maxLength: 4 }),
    });
    fc.assert(
      fc.property(fc.array(packArb, { maxLength: 3 }), fc.array(hexArb(32), { maxLength: 3 }), (packs, supersedes) => {
        const fragment = { packs, supersedes };
        expect(decodeFragment(encodeFragment(fragment))).to.deep.equal(fragment);
      }),
    );
    const locationArb = fc.record({
      pack: fc.nat(),
      offsetBytes: fc.maxSafeNat(),
      recordBytes: fc.nat(),
      lengthBytes: fc.nat(),
      innerOffsetBytes: fc.option(fc.nat(), { nil: undefined }),
      suspect: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(locationArb, { maxLength: 4 }), (locations) => {
        expect(decodeLocations(encodeLocations(locations))).to.deep.equal(locations);
      }),
    );
  });

  it("never crash on hostile bytes, nor take much memory", () => {
    const readers = [
      (bytes: Buffer): unknown => readState(new ByteReader(bytes)),
      decodeDelta,
      decodeFragment,
      decodeLocations,
      decodeNode,
    ];
    for (const decode of readers) {
      fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), neverCrashes(decode)));
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) =>
          neverCrashes(decode)(Buffer.concat([Buffer.of(1, 0), bytes])),
        ),
      );
    }
    fc.assert(
      fc.property(stateArb, fc.nat(), fc.nat(255), (state, at, value) => {
        const bytes = encodeState(state);
        bytes[at % bytes.length] = value;
        neverCrashes((damaged) => readState(new ByteReader(damaged)))(bytes);
        neverCrashes((damaged) => readState(new ByteReader(damaged)))(bytes.subarray(0, at % bytes.length));
      }),
    );
  });
});

describe("trees", () => {
  it("hold what was put into them, in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(pathArb, bytesTextArb), async (dictionary) => {
        const store = new NodeStore();
        const entries = new Map(Object.entries(dictionary));
        const root = await store.build(entries);
        const read = await store.read(root.id);
        expect([...read.keys()]).to.deep.equal([...entries.keys()].sort());
        expect(new Map(read)).to.deep.equal(new Map([...entries].sort(([a], [b]) => (a < b ? -1 : 1))));
        expect(root.entryCount).to.equal(entries.size);
      }),
    );
  });

  it("give only a folder and what lies below it when asked", async () => {
    const store = new NodeStore();
    const entries = manyEntries(5000);
    entries.set("/srv/data/folder-5", "the folder");
    entries.set("/srv/data/folder-5-not", "a neighbour");
    const root = await store.build(entries);
    store.loads = 0;
    const read = await store.read(root.id, "/srv/data/folder-5" as BytePath);
    const wanted = [...entries.keys()].filter(
      (path) => path === "/srv/data/folder-5" || path.startsWith("/srv/data/folder-5/"),
    );
    expect([...read.keys()]).to.deep.equal(wanted.sort());
    expect(store.loads).to.be.lessThan(8);
  });

  it("rewrite few nodes for a small change, and are the same whatever their history", async () => {
    const store = new NodeStore();
    const entries = manyEntries(20_000);
    const before = await store.build(entries);
    const known = store.nodes.size;
    expect(known).to.be.greaterThan(60);
    entries.set("/srv/data/folder-50/file-new", "new");
    entries.delete("/srv/data/folder-3/file-3.txt");
    const after = await store.build(entries);
    expect(store.nodes.size - known).to.be.lessThan(12);
    const fresh = await new NodeStore().build(entries);
    expect(fresh.id).to.equal(after.id);
    expect(before.id).to.not.equal(after.id);
  });

  it("keep their nodes within 64 KiB unless one entry is larger", async () => {
    const store = new NodeStore();
    await store.build(manyEntries(20_000));
    for (const bytes of store.nodes.values()) expect(bytes.length).to.be.lessThan(66_000);
    await store.build(
      new Map([
        ["/a", "x".repeat(200_000)],
        ["/b", "y"],
      ]),
    );
  });

  it("differ exactly in what differs, and the difference reads few nodes", async () => {
    const store = new NodeStore();
    const entries = manyEntries(20_000);
    const a = await store.build(entries);
    const changed = new Map(entries);
    changed.set("/srv/data/folder-1/added", "1");
    changed.delete("/srv/data/folder-9/file-9.txt");
    changed.set("/srv/data/folder-7/file-7.txt", "changed");
    const b = await store.build(changed);
    store.loads = 0;
    const found: string[] = [];
    for await (const { path, before, after } of diffTrees(store.load, a.id, b.id, UNLIMITED)) {
      found.push(`${before === undefined ? "+" : after === undefined ? "-" : "~"}${path.slice(10)}`);
    }
    expect(found).to.deep.equal(["+folder-1/added", "~folder-7/file-7.txt", "-folder-9/file-9.txt"]);
    expect(store.loads).to.be.lessThan(30);
  });

  it("differ as their contents do, for any two of them", async () => {
    const dictionaryArb = fc.dictionary(pathArb, fc.constantFrom("1", "2", "x".repeat(30_000)), { maxKeys: 30 });
    await fc.assert(
      fc.asyncProperty(dictionaryArb, dictionaryArb, async (left, right) => {
        const store = new NodeStore();
        const [a, b] = [new Map(Object.entries(left)), new Map(Object.entries(right))];
        const [rootA, rootB] = [await store.build(a), await store.build(b)];
        const found: [string, string | undefined, string | undefined][] = [];
        for await (const { path, before, after } of diffTrees(store.load, rootA.id, rootB.id, UNLIMITED)) {
          found.push([path, before?.toString("latin1"), after?.toString("latin1")]);
        }
        const wanted = [...new Set([...a.keys(), ...b.keys()])]
          .sort()
          .filter((path) => a.get(path) !== b.get(path))
          .map((path): [string, string | undefined, string | undefined] => [path, a.get(path), b.get(path)]);
        expect(found).to.deep.equal(wanted);
      }),
      { numRuns: 60 },
    );
  });

  it("are parted into stretches of about the size asked for, without reading leaves", async () => {
    const store = new NodeStore();
    const entries = manyEntries(20_000);
    const root = await store.build(entries);
    store.loads = 0;
    const borders = await evenPaths(store.load, root.id, 3000, UNLIMITED);
    expect(store.loads).to.be.lessThan(4);
    const paths = [...entries.keys()].sort();
    const places = [0, ...borders.map((path) => paths.indexOf(path)), paths.length];
    for (const [index, place] of places.slice(1, -1).entries()) {
      expect(place - (places[index] ?? 0)).to.be.within(3000, 4000);
    }
    expect(paths.length - (places.at(-2) ?? 0)).to.be.lessThan(4000);
    expect(await evenPaths(store.load, root.id, 30_000, UNLIMITED)).to.deep.equal([]);
  });

  it("stop a reader at a node that stands in a circle", async () => {
    const store = new NodeStore();
    const root = await store.build(manyEntries(5000));
    const top = decodeNode(await store.load(root.id));
    if (!("children" in top)) throw new Error("the tree is too small");
    store.nodes.set(top.children[0]?.id ?? root.id, await store.load(root.id));
    const read = await store.read(root.id).catch((error: unknown) => error);
    expect(hasCode(read, "RECORD_DAMAGED")).to.equal(true);
  });

  it("show every node once to a visitor that remembers", async () => {
    const store = new NodeStore();
    const root = await store.build(manyEntries(5000));
    const seen = new Set<string>();
    await visitNodes(store.load, root.id, async (id) => await Promise.resolve(seen.add(id).size > 0), UNLIMITED);
    expect(seen.size).to.equal(store.nodes.size);
  });
});
