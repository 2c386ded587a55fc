/** Proving the content of a backup: all of it, in the worker threads, and every damaged file by its name. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { chmod, open, unlink } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
import { type ContentProof, proveContent } from "../../src/engine/content-proof.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, storeFiles, upsert, walkFolder } from "../support/engine-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("proving content", () => {
  const folder = useTempFolder("proof");
  const SMALL = 300;

  /** Many small files in bundles, a large one, an empty one. */
  async function filled(): Promise<EngineRig> {
    const rig = await EngineRig.create(folder());
    for (let index = 0; index < SMALL; index += 1)
      await folder().write(`data/small-${String(index)}`, `no ${String(index)}`);
    await folder().write("data/large", randomBytes(3_000_000));
    await folder().write("data/empty", "");
    await using repository = await rig.open();
    const root = folder().bytes("data");
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    await repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
    return rig;
  }

  async function prove(repository: Repository): Promise<ContentProof & { readonly damaged: readonly BytePath[] }> {
    const damaged: BytePath[] = [];
    const listener = { damaged: ({ path }: { path: BytePath }) => damaged.push(path), progress: () => undefined };
    const proof = await proveContent(repository, repository.currentEntries("docs"), listener, UNLIMITED);
    return { ...proof, damaged: damaged.sort() };
  }

  async function flip(file: string, offset: number): Promise<void> {
    await chmod(file, 0o600);
    await using handle = await open(file, "r+");
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 0xff;
    await handle.write(byte, 0, 1, offset);
  }

  it("finds nothing wrong with what is whole, in packs and in the log, and counts it", async () => {
    const rig = await filled();
    await using repository = await rig.open();
    await folder().write("data/logged", "in the log");
    await upsert(repository, "docs", [folder().bytes("data/logged")]);
    const proof = await prove(repository);
    expect(proof.damaged).to.deep.equal([]);
    expect(proof.entries).to.be.at.least(SMALL + 3);
    expect(proof.bytes).to.be.greaterThan(3_000_000);
  });

  it("names each file of a damaged record, and no other", async () => {
    const rig = await filled();
    let largest = "";
    let size = 0;
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) {
      await using handle = await open(pack, "r");
      const stat = await handle.stat();
      if (stat.size > size) [largest, size] = [pack, stat.size];
    }
    await flip(largest, size - 500_000);
    await using repository = await rig.open();
    const { damaged } = await prove(repository);
    expect(damaged).to.deep.equal([folder().bytes("data", "large")]);
  });

  it("names all of them when the packs are gone, and nothing that needs none", async () => {
    const rig = await filled();
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await unlink(pack);
    await using repository = await rig.open();
    const { damaged } = await prove(repository);
    expect(damaged).to.have.length(SMALL + 1);
    expect(damaged).to.not.include(folder().bytes("data", "empty"));
  });

  it("ends when it is interrupted", async () => {
    const rig = await filled();
    await using repository = await rig.open();
    const stop = new AbortController();
    const listener = { damaged: () => undefined, progress: () => stop.abort(new Error("enough")) };
    const failure = await rejection(proveContent(repository, repository.currentEntries("docs"), listener, stop.signal));
    expect(String(failure)).to.match(/enough|interrupted/i);
  });
});
