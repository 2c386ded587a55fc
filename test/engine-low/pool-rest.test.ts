/** The worker pool at rest: idle threads end, new ones start when they are needed, and open packs keep theirs. */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import { pathFromText } from "../../src/base/paths.js";
import { ChunkSet } from "../../src/engine/workers/chunk-set.js";
import { THREAD_IDLE_MS, WorkerPool } from "../../src/engine/workers/pool.js";
import { openBackend } from "../../src/storage/open.js";
import { NEVER, noise, testKeys } from "../support/engine-keys.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const TURN_MS = 5;
const LIMIT_TURNS = 2000;

describe("worker pool at rest", () => {
  const folder = useTempFolder("pool-rest");
  let clock: FakeClock;
  let chunkSet: ChunkSet;
  let pool: WorkerPool;
  let threadsBefore: number;

  beforeEach(async () => {
    const store = await openBackend(folder().at("store"), { create: true });
    clock = new FakeClock();
    chunkSet = new ChunkSet();
    threadsBefore = await threadCount();
    pool = new WorkerPool({
      keys: testKeys(),
      storeUrl: store.url,
      stagingFolder: store.stagingFolder,
      chunkSet,
      workers: 2,
      observer: silentObserver,
      clock,
    });
    await mkdir(folder().at("live"));
  });

  afterEach(async () => {
    await pool[Symbol.asyncDispose]();
  });

  /** Threads of this process, by the system's own count. */
  async function threadCount(): Promise<number> {
    return (await readdir("/proc/self/task")).length;
  }

  /** Waits until the system counts as many more threads than before the pool. */
  async function reach(more: number): Promise<void> {
    for (let turn = 0; (await threadCount()) !== threadsBefore + more; turn += 1) {
      if (turn > LIMIT_TURNS) throw new Error(`there are ${await threadCount()} threads, not ${threadsBefore + more}`);
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
  }

  async function store(name: string, mode: "inline" | "pack", job: number): Promise<number> {
    const path = pathFromText(await folder().write(join("live", name), noise(10_000)));
    const result = await pool.ingest({ mode, compression: "lz4", job, paths: [path] }, NEVER);
    return result.outcomes.filter(({ kind }) => kind === "read").length;
  }

  it("ends its threads when nothing was asked for a while, and starts one for the next task", async () => {
    expect(await store("a", "inline", chunkSet.newJob())).to.equal(1);
    await reach(1);
    await clock.advance(THREAD_IDLE_MS - 1);
    expect(await threadCount()).to.equal(threadsBefore + 1);
    await clock.advance(1);
    await reach(0);
    expect(await store("b", "inline", chunkSet.newJob())).to.equal(1);
    await reach(1);
  });

  it("counts the rest from the last task on", async () => {
    await clock.advance(THREAD_IDLE_MS - 1);
    await store("a", "inline", chunkSet.newJob());
    await clock.advance(THREAD_IDLE_MS - 1);
    expect(await threadCount()).to.equal(threadsBefore + 1);
    await clock.advance(1);
    await reach(0);
  });

  it("keeps a thread that holds an open pack, and ends it once the pack is closed", async () => {
    const job = chunkSet.newJob();
    await store("a", "pack", job);
    await clock.advance(THREAD_IDLE_MS * 3);
    const packs = await pool.finishPacks(job, NEVER);
    expect(packs).to.have.length(1);
    await clock.advance(THREAD_IDLE_MS);
    await reach(0);
  });

  it("has a thread ready after a warning, once, and lets it go when nothing comes", async () => {
    await clock.advance(THREAD_IDLE_MS);
    await reach(0);
    for (let call = 0; call < 5; call += 1) pool.warm();
    await reach(1);
    await Promise.all([store("a", "inline", chunkSet.newJob()), store("b", "inline", chunkSet.newJob())]);
    await clock.advance(THREAD_IDLE_MS);
    await reach(0);
  });

  it("starts as many threads as it may for what is asked at once, and gives the rest to them", async () => {
    await clock.advance(THREAD_IDLE_MS);
    await reach(0);
    const asked = ["a", "b", "c", "d", "e", "f"].map((name) => store(name, "inline", chunkSet.newJob()));
    expect(await Promise.all(asked)).to.deep.equal([1, 1, 1, 1, 1, 1]);
    expect(await threadCount()).to.equal(threadsBefore + 2);
  });

  it("ends while a thread is being started", async () => {
    await clock.advance(THREAD_IDLE_MS);
    await reach(0);
    pool.warm();
    await pool[Symbol.asyncDispose]();
    await reach(0);
  });
});
