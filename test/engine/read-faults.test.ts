/**
 * A store that does not read: bad sectors under any of its objects, from the start or while it is in use, reads that
 * fail once, end too early or give a changed bit. It opens with what is left, tells what it could not take in, delivers
 * no wrong byte, removes nothing meanwhile, and has everything once the disk reads again.
 */
import { expect } from "chai";
import { readFile, rm } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import { repair } from "../../src/engine/repair.js";
import type { Repository } from "../../src/engine/repository.js";
import { codeOf } from "../support/engine-keys.js";
import { UNLIMITED } from "../support/engine-rig.js";
import type { ReadFault } from "../support/fault-io.js";
import { expectKnown, FaultyStore } from "../support/faulty-store.js";
import { expectSound } from "../support/store-scenario.js";

async function collect(repository: Repository): Promise<unknown> {
  return await gc(repository, { dryRun: false, allowShare: 1 }, UNLIMITED);
}

/** One store for all tests of a group, put back before each. */
function useFaultyStore(): () => FaultyStore {
  let store: FaultyStore | undefined;
  const current = (): FaultyStore => {
    if (store === undefined) throw new Error("there is no store outside of a test");
    return store;
  };
  before(async () => {
    store = await FaultyStore.filled();
  });
  after(() => store?.[Symbol.asyncDispose]());
  beforeEach(() => current().reset());
  return current;
}

/** Opens without the object, works, and opens again when it reads. */
async function livesWithout(store: FaultyStore, key: string): Promise<void> {
  const before = await readFile(`${store.rig.storeUrl}/${key}`);
  store.breakDisk(key);
  {
    await using repository = await store.open();
    expect((await repository.stats()).unreadObjects, "told by the statistics").to.be.greaterThan(0);
    const { problems } = await check(repository, { level: "structure" }, UNLIMITED);
    expect(problems.map(({ detail }) => detail).join("\n"), "told by the check").to.contain(key);
    await store.expectNothingWrong(repository);
    await store.scenario(repository).commit("meanwhile", "written beside the bad sector");
    await store.scenario(repository).backup();
    expect(await codeOf(collect(repository))).to.equal("RECORD_DAMAGED");
    const [oldest] = await repository.listBackups();
    if (oldest !== undefined)
      expect(await codeOf(repository.deleteBackups([oldest.backup_id], UNLIMITED))).to.equal("RECORD_DAMAGED");
  }
  store.healDisk();
  const [found] = (await store.keys("")).filter((each) => each.startsWith(key));
  expect(await readFile(`${store.rig.storeUrl}/${found ?? key}`)).to.deep.equal(before);
}

async function hasEverythingAgain(store: FaultyStore): Promise<void> {
  {
    await using repository = await store.open();
    await store.expectKept(repository);
    await collect(repository);
    await expectSound(repository);
  }
  await rm(store.rig.stateDir, { recursive: true });
  await using repository = await store.open();
  await store.expectKept(repository);
  await expectSound(repository);
}

describe("a store with a commit or a list that does not read", function () {
  this.timeout(60_000);
  const current = useFaultyStore();

  it("opens without a commit, whichever it is, and has it when the disk reads again", async () => {
    const store = current();
    for (const key of await store.keys("commits")) {
      await store.reset();
      try {
        await livesWithout(store, key);
        await hasEverythingAgain(store);
      } catch (error) {
        throw new Error(`${key}: ${String(error)}`, { cause: error });
      }
    }
  });

  it("opens without an index fragment: the packs say themselves what they hold", async () => {
    const store = current();
    for (const key of await store.keys("index")) {
      await store.reset();
      await livesWithout(store, key);
      await hasEverythingAgain(store);
    }
  });

  it("gives no number twice after its newest commit was not read", async () => {
    const store = current();
    const key = (await store.keys("commits")).at(-1) ?? "";
    store.breakDisk(key);
    const before = await numberOfNextCommit(store);
    await store.reset();
    expect(before).to.be.greaterThan(await numberOfNextCommit(store));
  });

  it("gives up the plan of a collection that does not read, for good", async () => {
    const store = current();
    const plan = (await store.keys("gc")).findLast((key) => key.endsWith("/plan")) ?? "";
    await rm(`${store.rig.storeUrl}/${plan.replace(/plan$/, "done")}`);
    store.breakDisk(plan);
    {
      await using repository = await store.open();
      await store.expectKept(repository);
    }
    expect(await store.keys("gc")).to.contain(plan.replace(/plan$/, "done"));
    store.healDisk();
    await hasEverythingAgain(store);
  });

  it("never takes a pack for empty of which nothing could be read", async () => {
    const store = current();
    for (const key of await store.keys("index")) await rm(`${store.rig.storeUrl}/${key}`);
    const [pack = ""] = await store.keys("packs/d");
    store.breakDisk(pack);
    {
      await using repository = await store.open();
      await store.expectNothingWrong(repository);
      expect(await codeOf(collect(repository))).to.equal("RECORD_DAMAGED");
    }
    {
      await using repository = await store.open(); // the index is there by now
      expect(await codeOf(collect(repository))).to.equal("RECORD_DAMAGED");
    }
    expect(await store.keys("packs")).to.contain(pack);
    store.healDisk();
    await hasEverythingAgain(store);
  });
});

async function numberOfNextCommit(store: FaultyStore): Promise<number> {
  await using repository = await store.open();
  await store.scenario(repository).commit("numbered", "x");
  return repository.core.lastSeq;
}

describe("a store with a log that does not read", function () {
  this.timeout(60_000);
  const current = useFaultyStore();

  it("opens without a segment of the log, keeps it, and takes it in by a repair when it reads again", async () => {
    const store = current();
    const [key = ""] = await store.keys("wal");
    await livesWithout(store, key);
    const [kept = ""] = await store.keys("wal");
    expect(kept).to.equal(`${key}.unread`);
    {
      await using repository = await store.open();
      expect(await codeOf(collect(repository)), "the segment is not given up").to.equal("RECORD_DAMAGED");
      const report = await repair(repository, { dryRun: false }, UNLIMITED);
      expect(report.objectsRepaired).to.deep.equal([kept]);
      expect(report.reopenNeeded).to.equal(true);
    }
    await hasEverythingAgain(store);
    expect(await store.keys("wal")).to.deep.equal([]);
  });

  it("leaves the segment of another writer where it is while nothing of it reads", async () => {
    const store = current();
    await store.reset("another");
    const [key = ""] = await store.keys("wal");
    await livesWithout(store, key);
    expect(await store.keys("wal")).to.deep.equal([key]);
    await hasEverythingAgain(store);
    expect(await store.keys("wal")).to.deep.equal([]);
  });
});

describe("a store with a log of which a sector does not read", function () {
  this.timeout(60_000);
  const current = useFaultyStore();

  it("has everything else of a segment of which one sector does not read", async () => {
    const store = current();
    const [key = ""] = await store.keys("wal");
    store.io.readPlan = (call, path, _index, { offsetBytes, lengthBytes }) =>
      call === "read" && path.endsWith(key) && offsetBytes < 600 && offsetBytes + lengthBytes > 100 ? "EIO" : undefined;
    const { size } = { size: (await readFile(`${store.rig.storeUrl}/${key}`)).length };
    expect(size).to.be.greaterThan(600);
    {
      await using repository = await store.open();
      await store.expectNothingWrong(repository);
      expect((await repository.stats()).unreadObjects).to.equal(1);
      expect(await codeOf(collect(repository))).to.equal("RECORD_DAMAGED");
    }
    store.healDisk();
    {
      await using repository = await store.open();
      await repair(repository, { dryRun: false }, UNLIMITED);
    }
    await hasEverythingAgain(store);
  });

  it("seals a log of which a sector went bad after it was written, and keeps the segment", async () => {
    const store = current();
    {
      await using repository = await store.open();
      const scenario = store.scenario(repository);
      await scenario.commit("late", "in the log");
      const key = (await store.keys("wal")).at(-1) ?? "";
      store.breakDisk(key);
      await scenario.seal();
      expect((await repository.stats()).unreadObjects).to.equal(1);
      expect(await store.keys("wal")).to.contain(`${key}.unread`);
      await scenario.commit("later", "goes on");
      await scenario.seal();
    }
    store.healDisk();
    {
      await using repository = await store.open();
      await repair(repository, { dryRun: false }, UNLIMITED);
    }
    await hasEverythingAgain(store);
  });
});

describe("a store with a configuration or a key that does not read", function () {
  this.timeout(60_000);
  const current = useFaultyStore();

  it("opens with one copy of the configuration, and with the key slots that read", async () => {
    const store = current();
    for (const key of [...(await store.keys("config")), ...(await store.keys("keys"))]) {
      store.breakDisk(key);
      const slots = await store.keys("keys");
      const opened = await store.open().catch(expectKnown);
      if (opened === undefined) expect(slots, `${key} may be the slot of the key in use`).to.contain(key);
      await opened?.[Symbol.asyncDispose]();
    }
    store.breakDisk(...(await store.keys("config")));
    expect(await codeOf(store.open())).to.equal("STORE_IO");
  });
});

/** `HOLDFAST_TESTS_THOROUGH=1` fails every single call, else one of each kind. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const FAULTS: readonly ReadFault[] = ["EIO", "ESTALE", "short", "rotten"];

describe("when reads of the store fail", function () {
  this.timeout(THOROUGH ? 7_200_000 : 120_000);
  let store: FaultyStore;

  before(async () => {
    store = await FaultyStore.filled();
  });
  after(() => store[Symbol.asyncDispose]());

  /** Opens with another index, lists, reads, restores, checks, backs up and collects; gives how far it came. */
  async function use(): Promise<"refused" | "used"> {
    const repository = await store.open().catch(expectKnown);
    if (repository === undefined) return "refused";
    try {
      await store.expectNothingWrong(repository);
      await check(repository, { level: "full" }, UNLIMITED).catch(expectKnown);
      const scenario = store.scenario(repository);
      const mark = `use ${String(store.io.reads.length)}`;
      await scenario.commit("used", mark).catch(expectKnown);
      await scenario.backup().catch(expectKnown);
      await collect(repository).catch(expectKnown);
      await store.expectNothingWrong(repository);
      return "used";
    } finally {
      await repository[Symbol.asyncDispose]();
    }
  }

  /** Numbers of calls, by what they are about. */
  async function kindsOfReads(): Promise<Map<string, number[]>> {
    await store.reset();
    await use();
    const kinds = new Map<string, number[]>();
    for (const [at, { call, path }] of store.io.reads.entries()) {
      const object = path.slice(store.rig.storeUrl.length).split("/").slice(1, 3).join("/");
      const name = `${call} ${object.replace(/\.?[0-9a-f]{16,}.*/, "")}`;
      kinds.set(name, [...(kinds.get(name) ?? []), at]);
    }
    return kinds;
  }

  it("no wrong byte is delivered and nothing acknowledged is lost, whichever call it was", async () => {
    const kinds = await kindsOfReads();
    expect(kinds.size).to.be.greaterThan(15);
    let turn = Math.floor(Math.random() * FAULTS.length);
    for (const [name, calls] of kinds) {
      const some = THOROUGH ? calls : [calls[Math.floor(Math.random() * calls.length)] ?? 0];
      for (const at of some) {
        turn += 1;
        const fault = FAULTS[turn % FAULTS.length] ?? "EIO";
        const isForGood = Math.floor(turn / FAULTS.length) % 2 === 1;
        await store.reset();
        store.io.readPlan = (_call, _path, index) => ((isForGood ? index >= at : index === at) ? fault : undefined);
        try {
          await use();
          store.healDisk();
          await using again = await store.open();
          await repair(again, { dryRun: false, readData: true }, UNLIMITED);
          await again[Symbol.asyncDispose]();
          await using repository = await store.open();
          await store.expectKept(repository);
        } catch (error) {
          throw new Error(`${fault} ${isForGood ? "from" : "at"} call ${String(at)}, ${name}: ${String(error)}`, {
            cause: error,
          });
        }
      }
    }
  });
});
