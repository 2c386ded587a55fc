/** Packed walks: what goes in comes out, and a backup beside one says what looking up each path says. */
import { expect } from "chai";
import fc from "fast-check";
import { rm, utimes } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository, WalkFailure, WalkedEntry } from "../../src/engine/repository.js";
import { encodeState, looksUnchanged } from "../../src/engine/tree/codec.js";
import { NODE_KINDS } from "../../src/engine/types.js";
import { type OwnedNode, WalkedBatch, WalkedBatchWriter } from "../../src/engine/walked-batch.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const path = fc
  .uint8Array({ minLength: 1, maxLength: 300 })
  .map((bytes) => `/${Buffer.from(bytes).toString("latin1")}` as BytePath);
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
/** Modification times reach beyond what 64 bits hold. */
const anyTime = fc.oneof(int64, fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }));
const stat = fc.record({ dev: uint64, ino: uint64, sizeBytes: fc.maxSafeNat(), mtimeNs: anyTime, ctimeNs: int64 });
const node: fc.Arbitrary<OwnedNode> = fc.record({
  ...{ path, kind: fc.constantFrom(...NODE_KINDS), stat },
  ...{ mode: uint32, uid: uint32, gid: uint32, linkCount: uint32 },
});
const failure: fc.Arbitrary<WalkFailure> = fc.record({ path, errno: fc.constantFrom("EACCES", "EIO") });

function packed(entries: readonly (OwnedNode | WalkFailure)[]): WalkedBatch {
  const writer = new WalkedBatchWriter(entries.length);
  for (const entry of entries) writer.add(entry);
  return new WalkedBatch(writer.take());
}

describe("a packed walk", () => {
  it("gives back every entry as it was, and orders paths as bytes", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(node, node, failure), { minLength: 1, maxLength: 20 }), (entries) => {
        const batch = packed(entries);
        expect([...batch]).to.deep.equal(entries);
        const paths = entries.map((entry) => entry.path);
        expect(batch.isSorted).to.equal(paths.every((each, index) => index === 0 || (paths[index - 1] ?? "") <= each));
        const key = Buffer.from(`prefix${paths[0] ?? ""}`, "latin1");
        paths.forEach((each, index) => {
          const order = Math.sign(batch.comparePath(index, key, "prefix".length));
          expect(order).to.equal(each < (paths[0] ?? "") ? -1 : each === paths[0] ? 0 : 1);
        });
      }),
    );
  });

  it("tells an unchanged entry by its bytes as the codec does by its numbers", () => {
    const other = fc.tuple(
      node,
      fc.constantFrom("kind", "ino", "mtimeNs", "ctimeNs", "sizeBytes", "dev", "none"),
      stat,
    );
    fc.assert(
      fc.property(other, ([known, field, changed]) => {
        const kind = field === "kind" ? "fifo" : known.kind;
        const now = field in changed ? { ...known.stat, [field]: changed[field as keyof typeof changed] } : known.stat;
        const state = encodeState({ node: known, timeMs: 1, seq: 1 });
        const encoded = Buffer.concat([Buffer.alloc(4), state]);
        const batch = packed([{ ...known, kind, stat: now }]);
        expect(batch.looksUnchanged(0, encoded, 4)).to.equal(looksUnchanged(encoded, 4, kind, now));
      }),
    );
  });
});

describe("a backup beside a packed walk", () => {
  const folder = useTempFolder("packed-walk");

  /** What a walk in byte order, or against it, gives, in batches of three. */
  async function* packedWalk(root: BytePath, inOrder: boolean): AsyncGenerator<Iterable<WalkedEntry>> {
    const entries: OwnedNode[] = [];
    for await (const each of walkFolder(root)) {
      for (const entry of each) if ("kind" in entry) entries.push({ ...entry, mode: 0, uid: 0, gid: 0, linkCount: 1 });
    }
    entries.sort((a, b) => (a.path < b.path === inOrder ? -1 : 1));
    for (let from = 0; from < entries.length; from += 3) yield packed(entries.slice(from, from + 3));
  }

  async function backUp(repository: Repository, walk: AsyncIterable<Iterable<WalkedEntry>>): Promise<string> {
    const roots = [folder().bytes("data")];
    const source = { name: "docs", roots, walk, encryptionRequired: false };
    const { sources } = await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
    const { files_total: total, files_changed: changed, checksum } = sources[0] ?? {};
    return `${String(total)} ${String(changed)} ${String(checksum)}`;
  }

  for (const inOrder of [true, false]) {
    it(`finds what is new, changed and gone ${inOrder ? "in byte order" : "in any other order too"}`, async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const data = folder().bytes("data");
      for (const name of ["b", "b-c", "b/x", "d/é", "f", "g"]) {
        await folder().write(`data/${name === "b" ? "a" : name}`, name);
      }
      expect(await backUp(repository, packedWalk(data, inOrder))).to.match(/^6 6 /);
      expect(await backUp(repository, packedWalk(data, inOrder))).to.match(/^6 0 /);
      await folder().write("data/a0", "new");
      await folder().write("data/zz", "new at the end");
      await folder().write("data/f", "changed");
      await rm(folder().at("data/b"), { recursive: true });
      await utimes(folder().at("data/g"), 1, 1);
      const packedSays = await backUp(repository, packedWalk(data, inOrder));
      expect(packedSays).to.match(/^7 4 /);
      // The same, path by path.
      const says = await backUp(repository, walkFolder(data));
      expect(says.split(" ")[2]).to.equal(packedSays.split(" ")[2]);
      expect(says).to.match(/^7 0 /);
    });
  }

  it("finds what is gone, also when something else is there again that had been away", async () => {
    const rig = await EngineRig.create(folder());
    const data = folder().bytes("data");
    for (const name of ["a", "b", "c", "d"]) await folder().write(`data/${name}`, name);
    const without = async function* (name: string): AsyncGenerator<Iterable<WalkedEntry>> {
      for await (const batch of packedWalk(data, true))
        yield [...batch].filter(({ path }) => !path.endsWith(`/${name}`));
    };
    const opened = async (walk: AsyncIterable<Iterable<WalkedEntry>>): Promise<string> => {
      await using repository = await rig.open();
      return await backUp(repository, walk);
    };
    expect(await opened(packedWalk(data, true))).to.match(/^4 4 /);
    expect(await opened(without("b"))).to.match(/^3 /);
    // As many as before are there, one of them unchanged since.
    expect(await opened(without("c"))).to.match(/^3 /);
    await using repository = await rig.open();
    const paths: string[] = [];
    for await (const { path } of repository.backupEntries("latest", { under: data }, UNLIMITED)) paths.push(path);
    expect(paths.map((path) => path.slice(data.length))).to.deep.equal(["", "/a", "/b", "/d"]);
  });

  it("keeps what a commit stored while the walk went on", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const data = folder().bytes("data");
    for (const name of ["a", "b", "c", "d", "e"]) await folder().write(`data/${name}`, name);
    await backUp(repository, packedWalk(data, true));
    const walk = async function* (): AsyncGenerator<Iterable<WalkedEntry>> {
      let isFirst = true;
      for await (const batch of packedWalk(data, true)) {
        yield batch;
        if (!isFirst) continue;
        isFirst = false;
        await folder().write("data/e", "saved meanwhile");
        await repository.commitChanges("docs", [{ path: folder().bytes("data/e"), kind: "upsert" }], UNLIMITED);
        await folder().write("data/ee", "made meanwhile");
        await repository.commitChanges("docs", [{ path: folder().bytes("data/ee"), kind: "upsert" }], UNLIMITED);
      }
    };
    expect(await backUp(repository, walk())).to.match(/^6 2 /);
  });
});
