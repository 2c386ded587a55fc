/** Backups after the first: what they take over, what they read, and what they leave as it was. */
import { expect } from "chai";
import { rm } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
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
