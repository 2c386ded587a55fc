/** How a backup divides the files that it reads among the workers. */
import { truncate } from "node:fs/promises";
import { expect } from "chai";
import type { BackupSource, Repository, WalkedEntry } from "../../src/engine/repository.js";
import { type BytePath, nameOf } from "../../src/base/paths.js";
import { EngineRig, UNLIMITED, walkFolder } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** More than a batch holds. */
const LARGE_BYTES = 9_000_000;

describe("large files", () => {
  const folder = useTempFolder("large-files");

  /** A folder's walk as it comes from the disk: many entries at a time. */
  async function* atOnce(root: BytePath): AsyncGenerator<WalkedEntry[]> {
    const entries: WalkedEntry[] = [];
    for await (const each of walkFolder(root)) entries.push(...each);
    yield entries;
  }

  /** Names of the files of each batch that a backup of `data` gives to the workers. */
  async function batchesOf(repository: Repository): Promise<string[][]> {
    const { pool } = repository.core.parts;
    const ingest = pool.ingest.bind(pool);
    const batches: string[][] = [];
    pool.ingest = async (batch, signal) => {
      batches.push(batch.paths.map(nameOf));
      return await ingest(batch, signal);
    };
    const root = folder().bytes("data");
    const source: BackupSource = { name: "docs", roots: [root], walk: atOnce(root), encryptionRequired: false };
    await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
    return batches;
  }

  it("that lie together go to the workers one by one, small ones together", async () => {
    for (const name of ["a", "b", "c"]) await truncate(await folder().write(`data/${name}`, ""), LARGE_BYTES);
    for (const name of ["d", "e", "f"]) await folder().write(`data/${name}`, name);
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const batches = await batchesOf(repository);
    expect(batches.flat().sort()).to.deep.equal(["a", "b", "c", "d", "data", "e", "f"]);
    const large = batches.map((names) => names.filter((name) => "abc".includes(name)).length);
    expect(Math.max(...large)).to.equal(1);
    expect(batches.length).to.be.at.most(4);
  });
});
