/** A system that has no room for another thread: the work is done by those that run, and without any it says why not. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { ChunkSet } from "../../src/engine/workers/chunk-set.js";
import { START_PAUSE_MS, WorkerPool } from "../../src/engine/workers/pool.js";
import { WorkerThread } from "../../src/engine/workers/thread.js";
import { openBackend } from "../../src/storage/open.js";
import { NEVER, noise, testKeys } from "../support/engine-keys.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecordingObserver } from "../support/state-store.js";
import { useTempFolder } from "../support/temp-folder.js";

const WORKERS = 3;

describe("a pool that cannot start a thread", () => {
  const folder = useTempFolder("thread-starts");
  let clock: FakeClock;
  let observer: RecordingObserver;
  let chunkSet: ChunkSet;
  let pool: WorkerPool;
  /** Threads that the system has room for. */
  let room: number;
  let starts: number;

  beforeEach(async () => {
    const store = await openBackend(folder().at("store"), { create: true });
    await mkdir(folder().at("live"));
    [clock, observer, chunkSet, room, starts] = [new FakeClock(), new RecordingObserver(), new ChunkSet(), 0, 0];
    pool = new WorkerPool({
      keys: testKeys(),
      storeUrl: store.url,
      stagingFolder: store.stagingFolder,
      chunkSet,
      workers: WORKERS,
      observer,
      clock,
      startThread: async (birth, listener) => {
        starts += 1;
        if (room === 0) throw Object.assign(new Error("EAGAIN"), { code: "ERR_WORKER_INIT_FAILED" });
        room -= 1;
        return await WorkerThread.start(birth, listener);
      },
    });
  });

  afterEach(async () => {
    await pool[Symbol.asyncDispose]();
  });

  /** Has files stored, all asked for at once; gives what became of each. */
  async function store(count: number, sizeBytes = 10_000): Promise<PromiseSettledResult<string | undefined>[]> {
    const numbers = Array.from({ length: count }, (_, number) => number);
    const write = async (number: number): Promise<string> =>
      await folder().write(join("live", `f${number}`), noise(sizeBytes, number + 1));
    const paths = (await Promise.all(numbers.map(write))).map((path) => pathFromText(path));
    const ingest = async (path: BytePath): Promise<string | undefined> => {
      const job = chunkSet.newJob();
      const { outcomes } = await pool.ingest({ mode: "pack", compression: "lz4", job, paths: [path] }, NEVER);
      await pool.finishPacks(job, NEVER);
      return outcomes[0]?.kind;
    };
    return await Promise.allSettled(paths.map(ingest));
  }

  const READ = { status: "fulfilled", value: "read" };

  it("gives its tasks to the threads that run, and says so", async () => {
    room = 1;
    expect(await store(7)).to.deep.equal(Array.from({ length: 7 }, () => READ));
    expect(observer.events().filter((event) => event === "workers.not_started")).to.have.length(1);
  });

  it("lets a thread seal what it offers itself", async () => {
    room = 1;
    expect(await store(1, 6_000_000)).to.deep.equal([READ]);
    expect(starts).to.be.greaterThan(1);
  });

  it("tries again after a while", async () => {
    room = 1;
    await store(WORKERS);
    [room, starts] = [WORKERS, 0];
    await store(WORKERS);
    expect(starts).to.equal(0);
    await clock.advance(START_PAUSE_MS);
    await store(WORKERS);
    expect(starts).to.equal(WORKERS - 1);
  });

  it("fails what is asked with the reason when no thread runs at all, and works as soon as one can be started", async () => {
    for (const outcome of await store(WORKERS)) {
      const reason: unknown = outcome.status === "rejected" ? outcome.reason : undefined;
      expect(reason).to.include({ code: "LIMIT_REACHED", message: "no worker thread can be started: EAGAIN" });
    }
    room = WORKERS;
    expect(await store(1)).to.deep.equal([READ]);
  });
});
