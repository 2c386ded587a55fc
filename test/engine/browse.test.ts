/** Looking into a backup as into a file system: one folder of a tree at a time, however much lies below it. */
import { expect } from "chai";
import fc from "fast-check";
import { createHash, randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { hasCode } from "../../src/base/errors.js";
import { type BytePath, joinPath } from "../../src/base/paths.js";
import { backupFolder, backupNode, contentRange } from "../../src/engine/browse.js";
import { TreeBuilder } from "../../src/engine/tree/builder.js";
import { folderItems } from "../../src/engine/tree/folder.js";
import { NodeCache } from "../../src/engine/tree/node-cache.js";
import type { ChunkId } from "../../src/engine/types.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

/** A tree in memory that counts the nodes which are read. */
class MemoryTree {
  readonly nodes = new Map<string, Buffer>();
  loads = 0;

  async build(paths: Iterable<string>): Promise<ChunkId> {
    const builder = new TreeBuilder((bytes) => {
      const id = createHash("sha256").update(bytes).digest("hex") as ChunkId;
      this.nodes.set(id, bytes);
      return Promise.resolve(id);
    });
    for (const path of [...new Set(paths)].sort()) await builder.add(path as BytePath, Buffer.from(path, "latin1"));
    return (await builder.finish()).id;
  }

  readonly load = (id: ChunkId): Promise<Buffer> => {
    this.loads += 1;
    return Promise.resolve(this.nodes.get(id) ?? Buffer.alloc(0));
  };

  async names(root: ChunkId, folder: string, fromName?: string): Promise<[string, boolean][]> {
    const found: [string, boolean][] = [];
    const place = { folder: folder as BytePath, ...(fromName === undefined ? {} : { fromName }) };
    for await (const { name, value } of folderItems(this.load, root, place, UNLIMITED)) {
      found.push([name, value !== undefined]);
    }
    return found;
  }
}

/** The names directly in a folder, found the slow way; true for those that are entries themselves. */
function slowly(paths: Iterable<string>, folder: string): Map<string, boolean> {
  const prefix = folder === "/" ? "/" : `${folder}/`;
  const found = new Map<string, boolean>();
  for (const path of paths) {
    if (!path.startsWith(prefix) || path === prefix) continue;
    const rest = path.slice(prefix.length);
    const name = rest.split("/")[0] ?? "";
    found.set(name, found.get(name) === true || !rest.includes("/"));
  }
  return found;
}

// Names around "/" in byte order, so that a folder's own names stand between those of its subfolders.
const pathArb = fc
  .array(fc.constantFrom("a", "b", "a-", "a.b", "a0", "\xff", "\x01"), { minLength: 1, maxLength: 4 })
  .map((names) => `/${names.join("/")}`);

describe("kept tree nodes", () => {
  it("are opened once while they are used, and opened again when many others came between", async () => {
    const store = new MemoryTree();
    const paths = Array.from(
      { length: 60_000 },
      (_, index) => `/d${String(index % 300)}/${"n".repeat(60)}${String(index)}`,
    );
    const root = await store.build(paths);
    const cache = new NodeCache(store.load);
    const names = async (folder: string): Promise<number> => {
      let count = 0;
      for await (const _item of folderItems(cache.load, root, { folder: folder as BytePath }, UNLIMITED)) count += 1;
      return count;
    };
    expect(await names("/d7")).to.equal(200);
    const loads = store.loads;
    expect(await names("/d7")).to.equal(200);
    expect(store.loads).to.equal(loads);
    for (let index = 0; index < 300; index += 1) expect(await names(`/d${String(index)}`)).to.equal(200);
    const before = store.loads;
    expect(await names("/d7")).to.equal(200);
    expect(store.loads).to.be.greaterThan(before);
  });

  it("are not kept when they could not be opened", async () => {
    let isBroken = true;
    const store = new MemoryTree();
    const root = await store.build(["/a"]);
    const cache = new NodeCache(async (id) => (isBroken ? Buffer.alloc(0) : await store.load(id)));
    const first: unknown = await cache.load(root, UNLIMITED).catch((error: unknown) => error);
    expect(hasCode(first, "RECORD_DAMAGED")).to.equal(true);
    isBroken = false;
    expect((await cache.load(root, UNLIMITED)).level).to.equal(0);
  });
});

describe("one folder of a tree", () => {
  it("holds the names directly in it, each once, for any tree", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(pathArb, { minLength: 1, maxLength: 80 }), pathArb, async (paths, folder) => {
        const tree = new MemoryTree();
        const root = await tree.build(paths);
        for (const each of ["/", folder]) {
          const found = await tree.names(root, each);
          expect(new Map(found)).to.deep.equal(slowly(paths, each));
          expect(found.length).to.equal(new Set(found.map(([name]) => name)).size);
        }
      }),
    );
  });

  it("is read without what lies in its subfolders", async () => {
    const tree = new MemoryTree();
    const paths: string[] = [];
    for (let folder = 0; folder < 4; folder += 1) {
      for (let file = 0; file < 20_000; file += 1) paths.push(`/top/d${folder}/file-${file}`);
    }
    const root = await tree.build(paths);
    tree.loads = 0;
    expect((await tree.names(root, "/top")).map(([name]) => name)).to.deep.equal(["d0", "d1", "d2", "d3"]);
    expect(tree.nodes.size).to.be.above(80);
    expect(tree.loads).to.be.below(30);
  });

  it("can be read from a name on", async () => {
    const tree = new MemoryTree();
    const root = await tree.build(["/d/a", "/d/b", "/d/c", "/d/c/x", "/e"]);
    expect((await tree.names(root, "/d", "b")).map(([name]) => name)).to.deep.equal(["b", "c"]);
  });
});

describe("a backup as a file system", () => {
  const folder = useTempFolder();

  async function backedUp(
    ...roots: readonly BytePath[]
  ): Promise<{ readonly repository: Repository; readonly id: string }> {
    const rig = await EngineRig.create(folder());
    const repository = await rig.open();
    const sources = roots.map((root, index) => ({
      name: `s${index}`,
      roots: [root],
      walk: walkFolder(root),
      encryptionRequired: false,
    }));
    const manifest = await repository.createBackup({ type: "full", sources }, UNLIMITED);
    return { repository, id: manifest.backup_id };
  }

  it("shows the folders on the way to a source, and says when there is no such folder", async () => {
    await folder().write("data/one/a.txt", "a");
    const root = folder().bytes("data");
    const { repository, id } = await backedUp(root);
    await using _closing = repository;
    let at = "/" as BytePath;
    for (const name of folder().path.split("/").filter(Boolean)) {
      const names = await listed(repository, id, at);
      expect(names).to.deep.equal([[name, undefined]]);
      at = joinPath(at, name);
    }
    expect(await listed(repository, id, root)).to.deep.equal([["one", "folder"]]);
    const missing = await rejection(listed(repository, id, joinPath(root, "none")));
    expect(missing).to.have.property("code", "VERSION_NOT_FOUND");
  });

  it("shows the names of several sources in one folder once each", async () => {
    await folder().write("x/both/a", "a");
    await folder().write("y/b", "b");
    const { repository, id } = await backedUp(folder().bytes("x"), folder().bytes("y"));
    await using _closing = repository;
    const here = folder().bytes();
    expect(await listed(repository, id, here)).to.deep.equal([
      ["x", "folder"],
      ["y", "folder"],
    ]);
  });

  it("gives any part of a file, and no bytes of a damaged one", async () => {
    const bytes = randomBytes(3_000_000);
    await mkdir(folder().at("data"));
    await folder().write("data/big", bytes);
    const root = folder().bytes("data");
    const { repository, id } = await backedUp(root);
    await using _closing = repository;
    const node = await backupNode(repository, id, joinPath(root, "big"), UNLIMITED);
    if (node === undefined) throw new Error("the file is not in the backup");
    await fc.assert(
      fc.asyncProperty(fc.nat(3_100_000), fc.nat(1_000_000), async (offsetBytes, lengthBytes) => {
        const parts: Buffer[] = [];
        const range = { offsetBytes, endBytes: offsetBytes + lengthBytes };
        for await (const part of contentRange(repository, node, range, UNLIMITED)) parts.push(part);
        expect(Buffer.concat(parts).equals(bytes.subarray(offsetBytes, offsetBytes + lengthBytes))).to.equal(true);
      }),
      { numRuns: 25 },
    );
  });
});

async function listed(repository: Repository, id: string, folder: BytePath): Promise<[string, string | undefined][]> {
  const found: [string, string | undefined][] = [];
  for await (const { name, node } of backupFolder(repository, id, { folder }, UNLIMITED))
    found.push([name, node?.kind]);
  return found;
}
