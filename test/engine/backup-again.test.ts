/** Backups after the first: what they take over, what they read, and what they leave as it was. */
import { expect } from "chai";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import type { BackupSource, Repository } from "../../src/engine/repository.js";
import type { Manifest } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED, contentOf, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const source = (name: string, root: BytePath): BackupSource => ({
  name,
  roots: [root],
  walk: walkFolder(root),
  encryptionRequired: false,
});

async function backUp(repository: Repository, root: BytePath): Promise<Manifest> {
  return await repository.createBackup({ type: "incremental", sources: [source("docs", root)] }, UNLIMITED);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** Digest of each file below a folder, by its path from there. */
function filesOnDisk(root: string): ReadonlyMap<string, string> {
  const names = readdirSync(root, { recursive: true, withFileTypes: true }).filter((each) => each.isFile());
  const paths = names.map((each) => join(each.parentPath, each.name));
  return new Map(paths.map((path) => [path, createHash("sha256").update(readFileSync(path)).digest("hex")]));
}

async function filesInLatest(repository: Repository): Promise<ReadonlyMap<string, string | undefined>> {
  const entries = await collect(repository.backupEntries("latest", {}, UNLIMITED));
  return new Map(entries.filter(({ node }) => node.kind === "file").map(({ path, node }) => [path, node.sha256]));
}

/** Backs up; gives how many current entries were read to build the tree. */
async function entriesReadBy(repository: Repository, root: BytePath): Promise<number> {
  const { entries } = repository.core.parts.catalog;
  const read = entries.currentBetween.bind(entries);
  let count = 0;
  entries.currentBetween = async function* (...range) {
    for await (const page of read(...range)) {
      count += page.length;
      yield page;
    }
  };
  await backUp(repository, root);
  return count;
}

describe("backups after the first", () => {
  const folder = useTempFolder("engine-again");

  it("take over the tree of the last one after a restart, until something changed", async () => {
    const rig = await EngineRig.create(folder());
    for (let index = 0; index < 50; index += 1) await folder().write(`data/f${index}`, `content ${index}`);
    const data = folder().bytes("data");
    const packs = async (): Promise<number> => {
      await using repository = await rig.open();
      await backUp(repository, data);
      return (await repository.stats()).packs;
    };
    const first = await packs();
    expect(await packs()).to.equal(first);
    await rm(folder().at("data/f7"));
    expect(await packs()).to.equal(first + 1); // the tree without it
    expect(await packs()).to.equal(first + 1);
    await using repository = await rig.open();
    const checksums = (await repository.listBackups()).map(({ sources }) => sources[0]?.checksum);
    expect(new Set(checksums).size).to.equal(2);
    const entries = await collect(repository.backupEntries("latest", { under: data }, UNLIMITED));
    expect(entries.filter(({ node }) => node.kind === "file")).to.have.length(49);
  });

  describe("by another process", () => {
    const FILES = 1000;

    /** A repository with one backup of many files in a few folders. */
    async function backedUp(): Promise<{ rig: EngineRig; data: BytePath }> {
      const rig = await EngineRig.create(folder());
      for (let index = 0; index < FILES; index += 1)
        await folder().write(`data/${String(index % 5)}/f${String(index)}`, `content ${String(index)}`);
      const data = folder().bytes("data");
      await using repository = await rig.open();
      await backUp(repository, data);
      return { rig, data };
    }

    it("read only the parts of the tree in which something changed", async () => {
      const { rig, data } = await backedUp();
      for (const change of ["changed", "changed once more"]) {
        await folder().write("data/3/f3", change);
        await folder().write(`data/3/new ${change}`, change);
        await rm(folder().at(change === "changed" ? "data/3/f8" : "data/3/f13"));
        await using repository = await rig.open();
        expect(await entriesReadBy(repository, data)).to.be.within(1, FILES * 0.9);
        expect(await filesInLatest(repository)).to.deep.equal(filesOnDisk(folder().at("data")));
      }
    });

    it("read all where what is remembered is not the tree of the last backup", async () => {
      const { rig, data } = await backedUp();
      await folder().write("data/3/f3", "changed");
      await using repository = await rig.open();
      const { catalog } = repository.core.parts;
      const root = catalog.commits.backups().at(-1)?.sources[0]?.root;
      const leaves = root === undefined ? undefined : catalog.leaves.of("docs", root);
      if (root === undefined || leaves === undefined) throw new Error("nothing is remembered");
      await catalog.leaves.keep("docs", { root, leaves: leaves.slice(1) });
      expect(await entriesReadBy(repository, data)).to.be.at.least(FILES);
      expect(await filesInLatest(repository)).to.deep.equal(filesOnDisk(folder().at("data")));
    });

    it("read all when something was stored between them that nobody remembers", async () => {
      const { rig, data } = await backedUp();
      {
        await using repository = await rig.open();
        const path = await folder().write("data/3/f3", "changed");
        const change = { path: pathFromText(path), kind: "upsert" } as const;
        await repository.commitChanges("docs", [change], UNLIMITED);
      }
      await folder().write("data/4/f4", "changed too");
      await using repository = await rig.open();
      expect(await entriesReadBy(repository, data)).to.be.at.least(FILES);
      expect(await filesInLatest(repository)).to.deep.equal(filesOnDisk(folder().at("data")));
    });
  });

  it("keep the last good version of what is held back, and ask only about what they would read", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/a", "good");
    await folder().write("data/b", "same");
    const [root, path] = [folder().bytes("data"), folder().bytes("data/a")];
    await backUp(repository, root);
    await folder().write("data/a", "damaged");
    const asked: BytePath[] = [];
    const heldBack = (each: BytePath): boolean => asked.push(each) > 0 && each === path;
    const request = { type: "incremental", sources: [{ ...source("docs", root), heldBack }] } as const;
    const manifest = await repository.createBackup(request, UNLIMITED);
    expect(asked).to.deep.equal([path]);
    expect(manifest.sources[0]?.files_unreadable).to.equal(1);
    const [entry] = await collect(repository.backupEntries("latest", { under: path }, UNLIMITED));
    expect((await contentOf(repository, entry?.node)).toString()).to.equal("good");
  });
});
