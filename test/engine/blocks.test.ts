/** Files that are written in place: how they are cut, what an edit adds, and which of their blocks changed. */
import { expect } from "chai";
import fc from "fast-check";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
import { BLOCK_BYTES, type FileBlocks, differingRanges } from "../../src/engine/block-changes.js";
import { pageChunkBytes } from "../../src/engine/chunk/pages.js";
import type { Repository } from "../../src/engine/repository.js";
import type { ChunkId, ChunkRef, FileNode } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED, contentOf, upsert } from "../support/engine-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const MIB = 2 ** 20;

/** Bytes that are nowhere the same. */
function noise(seed: string, lengthBytes: number): Buffer {
  return createHash("shake256", { outputLength: lengthBytes }).update(seed).digest();
}

/** The beginning of a qcow2 image, and noise. */
function image(sizeBytes: number): Buffer {
  return Buffer.concat([Buffer.from("QFI\xfb", "latin1"), noise("image", sizeBytes - 4)]);
}

async function overwrite(path: string, offsetBytes: number, bytes: Buffer): Promise<void> {
  await using file = await open(path, "r+");
  await file.write(bytes, 0, bytes.length, offsetBytes);
}

async function store(repository: Repository, path: BytePath): Promise<FileNode> {
  const { stored } = await upsert(repository, "data", [path]);
  const node = stored[0]?.node;
  if (node === undefined) throw new Error("nothing was stored");
  return node;
}

async function blocksOf(repository: Repository, sinceMs?: number): Promise<FileBlocks[]> {
  const all: FileBlocks[] = [];
  for await (const file of repository.blockChanges({ source: "data", sinceMs }, UNLIMITED)) all.push(file);
  return all;
}

describe("files that are written in place", () => {
  const folder = useTempFolder("blocks");

  it("are cut at their pages, and a page that changes is one new chunk", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const path = await folder().write("disk.qcow2", image(3 * MIB + 1000));
    const before = await store(repository, folder().bytes("disk.qcow2"));
    expect(new Set(before.chunks?.slice(0, -1).map(({ lengthBytes }) => lengthBytes))).to.deep.equal(new Set([8192]));
    await overwrite(path, 2 * MIB + 8192 * 3 + 100, noise("edit", 50));
    const after = await store(repository, folder().bytes("disk.qcow2"));
    const isNew = after.chunks?.filter(({ id }, index) => before.chunks?.[index]?.id !== id) ?? [];
    expect(isNew).to.have.length(1);
    const expected = image(3 * MIB + 1000);
    noise("edit", 50).copy(expected, 2 * MIB + 8192 * 3 + 100);
    expect((await contentOf(repository, after)).equals(expected)).to.equal(true);
  });

  it("keep their content whatever their length is", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    for (const sizeBytes of [65_537, 8192 * 9, MIB, MIB + 1, 9 * MIB - 1, 9 * MIB + 8192, 10 * MIB + 17]) {
      const name = `image-${String(sizeBytes)}`;
      await folder().write(name, image(sizeBytes));
      const node = await store(repository, folder().bytes(name));
      expect((await contentOf(repository, node)).equals(image(sizeBytes)), name).to.equal(true);
      expect(node.chunks?.every(({ lengthBytes }) => lengthBytes <= 8192)).to.equal(true);
    }
  });

  it("are known by what real programs write", function () {
    requirePrograms(this, "sqlite3");
    const path = folder().at("rows.sqlite");
    execFileSync("sqlite3", [path, "create table t (a); insert into t values (1);"]);
    const head = execFileSync("head", ["-c", "8192", path]);
    expect(pageChunkBytes(head, 200_000)).to.equal(8192);
    expect(pageChunkBytes(Buffer.from("plain text, long enough"), 200_000)).to.equal(undefined);
    expect(pageChunkBytes(noise("any", 8192), 8192 * 100)).to.equal(undefined);
    expect(pageChunkBytes(Buffer.alloc(0), 0)).to.equal(undefined);
    expect(pageChunkBytes(Buffer.alloc(8192), 8192 * 100)).to.equal(undefined);
  });

  it("have larger chunks when they are larger, so that the list of them stays short", () => {
    const head = image(8192);
    const sizes = [1, 64, 256, 1024, 8192, 262_144].map((mebibytes) => pageChunkBytes(head, mebibytes * MIB));
    expect(sizes).to.deep.equal([8192, 16_384, 32_768, 65_536, 131_072, 262_144]);
    for (let sizeBytes = MIB; sizeBytes <= 64 * 2 ** 30; sizeBytes *= 2) {
      const count = sizeBytes / (pageChunkBytes(head, sizeBytes) ?? NaN);
      expect(count).to.be.lessThan(300_000);
    }
  });

  it("tell which of their blocks changed, exactly", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const path = await folder().write("disk.qcow2", image(3 * MIB));
    await folder().write("small", noise("small", 2000));
    await store(repository, folder().bytes("small"));
    const { timeMs } = await upsert(repository, "data", [folder().bytes("disk.qcow2")]);
    expect(await blocksOf(repository)).to.deep.include.members([
      {
        ...{ path: folder().bytes("disk.qcow2"), sizeBytes: 3 * MIB, blocks: 768, changedBlocks: 0 },
        ...{ fixedChunkBytes: 8192, isExact: true },
      },
    ]);
    await overwrite(path, 40 * BLOCK_BYTES + 7, Buffer.from("x"));
    await overwrite(path, 90 * BLOCK_BYTES - 1, Buffer.from("over the edge"));
    await store(repository, folder().bytes("disk.qcow2"));
    await overwrite(path, 2 * MIB, Buffer.alloc(10 * BLOCK_BYTES));
    await store(repository, folder().bytes("disk.qcow2"));
    expect((await blocksOf(repository)).map(({ changedBlocks }) => changedBlocks)).to.deep.equal([10]);
    expect((await blocksOf(repository, timeMs)).map(({ changedBlocks }) => changedBlocks)).to.deep.equal([13]);
  });

  it("count every block of a file that was not there before", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("new", noise("new", 2 * MIB));
    await store(repository, folder().bytes("new"));
    expect((await blocksOf(repository, 1)).map(({ changedBlocks }) => changedBlocks)).to.deep.equal([512]);
  });

  it("never hide a change behind chunks that differ in length", () => {
    const listArb = fc.array(
      fc.record({ id: fc.constantFrom("a", "b", "c"), lengthBytes: fc.integer({ min: 1, max: 9000 }) }),
    );
    fc.assert(
      fc.property(listArb, listArb, (older, newer) => {
        const refs = (list: typeof older): ChunkRef[] => list.map((ref) => ({ ...ref, id: ref.id as ChunkId }));
        const changed = [...differingRanges(refs(older), refs(newer))];
        const places = placesOf(older);
        for (const [at, text] of placesOf(newer)) {
          const isCovered = changed.some(({ offsetBytes, endBytes }) => offsetBytes <= at && endBytes > at);
          expect(isCovered || places.get(at) === text).to.equal(true);
        }
        let last = -1;
        for (const { offsetBytes, endBytes } of changed) {
          expect(offsetBytes % BLOCK_BYTES).to.equal(0);
          expect(offsetBytes).to.be.greaterThan(last);
          last = endBytes;
        }
      }),
    );
  });
});

function placesOf(list: readonly { readonly id: string; readonly lengthBytes: number }[]): Map<number, string> {
  const places = new Map<number, string>();
  let at = 0;
  for (const { id, lengthBytes } of list) {
    places.set(at, `${id} ${String(lengthBytes)}`);
    at += lengthBytes;
  }
  return places;
}
