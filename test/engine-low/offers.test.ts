/** How the tasks of a pool reach its threads: alike, and a large file's chunks by those that have nothing to do. */
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import type { FinishedPack } from "../../src/engine/pack/format.js";
import { RecordOpener } from "../../src/engine/pack/record.js";
import { nodeOfUnstamped } from "../../src/engine/tree/unstamped.js";
import type { ChunkId } from "../../src/engine/types.js";
import { ChunkSet } from "../../src/engine/workers/chunk-set.js";
import { type IngestResult, WorkerPool } from "../../src/engine/workers/pool.js";
import type { FileIo, IoFile } from "../../src/storage/file-io.js";
import { openBackend } from "../../src/storage/open.js";
import { codeOf, NEVER, noise, testKeys } from "../support/engine-keys.js";
import { FaultIo } from "../support/fault-io.js";
import { useTempFolder } from "../support/temp-folder.js";

const KEYS = testKeys();
/** Some ten chunks, each sealed alone. */
const LARGE_BYTES = 6_000_000;

/** The first file is created when a second one is to be: one thread stands still until another has come so far. */
class MeetingIo extends FaultIo {
  readonly #met = deferred<undefined>();
  #creations = 0;

  override async create(path: string): Promise<IoFile> {
    this.#creations += 1;
    if (this.#creations === 2) this.#met.resolve(undefined);
    await this.#met.promise;
    return await super.create(path);
  }
}

/** The first pack that is created is written as far as it is let; no second one can be created. */
class HeldIo extends FaultIo {
  readonly refused = deferred<undefined>();
  /** What each write of the first one waits for. */
  gate: Promise<undefined> = Promise.resolve(undefined);
  creations = 0;

  override async create(path: string): Promise<IoFile> {
    this.creations += 1;
    if (this.creations > 1) {
      this.refused.resolve(undefined);
      throw Object.assign(new Error("made to fail"), { code: "ENOSPC" });
    }
    const file = await super.create(path);
    const write = file.write.bind(file);
    file.write = async (parts, offsetBytes) => {
      await this.gate;
      await write(parts, offsetBytes);
    };
    return file;
  }
}

describe("the threads of a pool", () => {
  const folder = useTempFolder("offers");
  const chunkSet = new ChunkSet();

  async function openPool(io?: FileIo, workers = 2): Promise<WorkerPool> {
    const store = await openBackend(folder().at("store"), { create: true });
    await mkdir(folder().at("live"), { recursive: true });
    const { url: storeUrl, stagingFolder } = store;
    const common = { keys: KEYS, storeUrl, stagingFolder, chunkSet, workers, observer: silentObserver };
    return new WorkerPool(io === undefined ? common : { ...common, io });
  }

  async function live(name: string, content: Uint8Array): Promise<BytePath> {
    return pathFromText(await folder().write(join("live", name), content));
  }

  /** Files whose chunks are not offered: so many are one bundle, which is more than is gathered before a write. */
  async function smallFiles(batch: number): Promise<BytePath[]> {
    const numbers = Array.from({ length: 21 }, (_, file) => file);
    return await Promise.all(
      numbers.map((file) => live(`file-${batch}-${file}`, noise(50_000, 1 + batch * 100 + file))),
    );
  }

  async function ingest(pool: WorkerPool, job: number, ...paths: BytePath[]): Promise<IngestResult> {
    return await pool.ingest({ job, mode: "pack", compression: "lz4", paths }, NEVER);
  }

  const staged = async (): Promise<string[]> => await readdir(folder().at("store", "staging"));

  /** The chunks of packs that lie in the staging folder, opened. */
  async function chunksOf(packs: readonly FinishedPack[]): Promise<Map<ChunkId, Buffer>> {
    const opener = new RecordOpener(KEYS);
    const chunks = new Map<ChunkId, Buffer>();
    for (const { stagingPath, entries } of packs) {
      const bytes = await readFile(stagingPath);
      for (const { id, offsetBytes, recordBytes } of entries) {
        expect(chunks.has(id), "a chunk is stored twice").to.equal(false);
        chunks.set(id, opener.open(bytes.subarray(offsetBytes, offsetBytes + recordBytes)).plain);
      }
    }
    return chunks;
  }

  it("seal the chunks of one large file together, and it is whole", async () => {
    await using pool = await openPool();
    const job = chunkSet.newJob();
    const content = noise(LARGE_BYTES, 11);
    const { outcomes, packs } = await ingest(pool, job, await live("large", content));
    const all = [...packs, ...(await pool.finishPacks(job, NEVER))];
    expect(all).to.have.length(2);
    const [outcome] = outcomes;
    if (outcome?.kind !== "read") throw new Error("it was not read");
    const chunks = await chunksOf(all);
    const ids = nodeOfUnstamped(outcome.unstamped).chunks?.map(({ id }) => id) ?? [];
    expect(Buffer.concat(ids.map((id) => chunks.get(id) ?? Buffer.alloc(0))).equals(content)).to.equal(true);
    chunkSet.confirmJob(job);
    expect(ids.every((id) => chunkSet.isDurable(id))).to.equal(true);
  });

  it("leave a large file to the one thread that there is", async () => {
    await using pool = await openPool(undefined, 1);
    const job = chunkSet.newJob();
    const { packs } = await ingest(pool, job, await live("large", noise(LARGE_BYTES, 12)));
    expect([...packs, ...(await pool.finishPacks(job, NEVER))]).to.have.length(1);
  });

  it("fail a file with the reason for which another thread could not write its chunks", async () => {
    const io = new FaultIo();
    await using pool = await openPool(io);
    const job = chunkSet.newJob();
    let creations = 0;
    io.plan = (call) => (call === "create" && (creations += 1) === 2 ? "ENOSPC" : undefined);
    expect(await codeOf(ingest(pool, job, await live("large", noise(LARGE_BYTES, 13))))).to.equal("STORE_FULL");
    expect(creations).to.be.greaterThan(1);
    expect(await codeOf(ingest(pool, job, await live("next", noise(1000, 14))))).to.equal("STORE_FULL");
    await pool.abandon(job);
    expect(await staged()).to.deep.equal([]);
    io.plan = () => undefined;
    const again = chunkSet.newJob();
    await ingest(pool, again, await live("next", noise(1000, 14)));
    expect(await pool.finishPacks(again, NEVER)).to.have.length(1);
  });

  it("break off what a job has under way when a part of it fails, all for the one reason", async () => {
    const io = new HeldIo();
    await using pool = await openPool(io);
    const job = chunkSet.newJob();
    await ingest(pool, job, ...(await smallFiles(1))); // the pack of the thread that reads the large file
    const letGo = deferred<undefined>();
    io.gate = letGo.promise;
    const writes = (): number => io.calls.filter(({ call }) => call === "write").length;
    const before = writes();
    const next = await live("next", noise(1000, 14));
    const first = codeOf(ingest(pool, job, await live("large", noise(3 * LARGE_BYTES, 16))));
    await io.refused.promise;
    const codes = [await codeOf(ingest(pool, job, next)), await codeOf(ingest(pool, job, next))];
    letGo.resolve(undefined);
    expect([await first, ...codes]).to.deep.equal(["STORE_FULL", "STORE_FULL", "STORE_FULL"]);
    expect(io.creations, "what is offered afterwards is not sealed").to.be.at.most(4);
    expect(writes() - before, "nor is the file read to its end").to.be.at.most(2);
  });

  it("throw away what they sealed for a job that is abandoned", async () => {
    await using pool = await openPool();
    const job = chunkSet.newJob();
    await ingest(pool, job, await live("large", noise(LARGE_BYTES, 15)));
    expect(await staged()).to.have.length(2);
    await pool.abandon(job);
    expect(await staged()).to.deep.equal([]);
  });

  it("end with packs open, whether they are threads or not", async () => {
    for (const io of [undefined, new FaultIo()]) {
      await using pool = await openPool(io);
      await ingest(pool, chunkSet.newJob(), await live("large", noise(LARGE_BYTES, 18)));
    }
    expect(await staged()).to.deep.equal([]);
  });

  it("are given tasks alike, though one of them is started while the other is busy", async () => {
    await using pool = await openPool(new MeetingIo());
    const job = chunkSet.newJob();
    const batches = await Promise.all([1, 2, 3, 4].map(smallFiles));
    await Promise.all(batches.map((paths) => ingest(pool, job, ...paths)));
    const packs = await pool.finishPacks(job, NEVER);
    expect(packs.map(({ entries }) => entries.length)).to.deep.equal([2, 2]);
  });
});
