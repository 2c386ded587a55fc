/**
 * Several writers of one store that all believe that they hold it: the lock's file is deleted beneath them, as when a
 * disk is mounted on two machines. Writers stand still in the middle of their calls while others take over, work and
 * collect, then go on, with clocks that are days apart. Whatever was acknowledged to any of them is there in the end.
 */
import { expect } from "chai";
import fc from "fast-check";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { deferred } from "../../src/base/concurrency.js";
import { HoldfastError } from "../../src/base/errors.js";
import { check } from "../../src/engine/check.js";
import type { Repository } from "../../src/engine/repository.js";
import { noise } from "../support/engine-keys.js";
import { EngineRig, storeFiles, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { FaultIo } from "../support/fault-io.js";
import { HoldingIo } from "../support/holding-io.js";
import { DAY_MS, Ledger, type StoreNote, StoreScenario } from "../support/store-scenario.js";
import { codeOf } from "../support/engine-keys.js";
import { fastTempParent, TempFolder, useTempFolder } from "../support/temp-folder.js";

const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const RUNS = THOROUGH ? 500 : 3;
const WRITERS = 3;

const WORKS = ["commit", "commit", "remove", "seal", "backup", "collect", "collect old", "remove backup"] as const;

/** What a writer does next; `holdAfter`: it stands still before that call of the store. */
interface Work {
  readonly work: (typeof WORKS)[number] | "open";
  readonly writer: number;
  readonly seed: number;
  readonly holdAfter: number | undefined;
}

/** A process that writes: it has files and a source of its own. */
class Writer {
  readonly io = new HoldingIo();
  readonly ledger = new Ledger();
  readonly data: TempFolder;
  readonly #repository: Repository;
  readonly #scenario: StoreScenario;
  /** What it does, or where it stands still. */
  #doing: Promise<string> = Promise.resolve("nothing");

  private constructor(repository: Repository, io: HoldingIo, data: TempFolder, clock: FakeClock) {
    this.io = io;
    this.data = data;
    this.#repository = repository;
    this.#scenario = new StoreScenario(repository, data, clock, (note) => this.ledger.add(note));
    this.#scenario.sourceName = `source ${data.path}`;
  }

  static async open(rig: EngineRig, stateDir: string, data: TempFolder, clock: FakeClock): Promise<Writer> {
    const io = new HoldingIo();
    return new Writer(await rig.open({ stateDir, io, clock }), io, data, clock);
  }

  /** Begins to work; resolves when that is done, has failed with one of our own errors, or stands still. */
  async begin({ work, seed, holdAfter }: Work, oldGo: () => void): Promise<string> {
    await this.goOn();
    const held = holdAfter === undefined ? undefined : this.io.holdAfter(holdAfter);
    this.#doing = this.#do(work, seed, oldGo).then(
      () => "done",
      (error: unknown) => {
        if (error instanceof HoldfastError) return error.code;
        throw error;
      },
    );
    this.#doing.catch(() => undefined); // told by whoever waits for it
    const outcome = await Promise.race([this.#doing, ...(held === undefined ? [] : [held])]);
    return outcome ?? "stands still";
  }

  async #do(work: Work["work"], seed: number, oldGo: () => void): Promise<void> {
    const name = `f${String(seed % 4)}`;
    const id = [...this.ledger.backups.keys()][0];
    if (work === "commit") await this.#scenario.commit(name, noise(500 + (seed % 5) * 4000, 1 + (seed % 9)));
    else if (work === "remove") await this.#scenario.remove(name);
    else if (work === "seal") await this.#scenario.seal();
    else if (work === "backup") await this.#scenario.backup();
    else if (work === "collect") await this.#scenario.collect();
    else if (work === "remove backup" && id !== undefined) await this.#scenario.removeBackup(id);
    else if (work === "collect old") {
      oldGo();
      await this.#scenario.collect(DAY_MS / 2);
    }
  }

  /** Goes on from where it stands still, to the end of its work. */
  async goOn(): Promise<string> {
    this.io.release();
    return await this.#doing;
  }

  async end(): Promise<void> {
    await this.goOn();
    await this.#repository[Symbol.asyncDispose]();
  }
}

/** A store with its writers, living and gone. */
class Stage {
  readonly #folder: TempFolder;
  readonly #rig: EngineRig;
  readonly #skewsMs: readonly number[];
  readonly #all: Writer[] = [];
  readonly #alive = new Map<number, Writer>();
  readonly steps: string[] = [];

  constructor(folder: TempFolder, rig: EngineRig, skewsMs: readonly number[]) {
    this.#folder = folder;
    this.#rig = rig;
    this.#skewsMs = skewsMs;
  }

  async step(work: Work): Promise<void> {
    const { writer: number, holdAfter } = work;
    const label = `${String(number)} ${work.work} ${String(work.seed)} ${String(holdAfter ?? "")}`;
    this.steps.push(label);
    if (work.work === "open") await this.#open(number);
    else {
      const outcome = await this.#alive.get(number)?.begin(work, () => this.#oldVersionsGo());
      this.steps.push(`  ${outcome ?? "is not there"}`);
    }
  }

  /** Lets a writer in, whoever else is there. */
  async #open(number: number): Promise<void> {
    await this.#alive.get(number)?.end();
    this.#alive.delete(number);
    await rm(this.#folder.at("store/leases/lock"), { force: true });
    const clock = new FakeClock();
    clock.jumpWall(this.#skewsMs[number] ?? 0);
    const data = this.#folder.below(`data${String(this.#all.length)}`);
    const writer = await Writer.open(this.#rig, this.#folder.at(`state${String(number)}`), data, clock);
    this.#alive.set(number, writer);
    this.#all.push(writer);
  }

  /** A collection forgets old versions of all sources. */
  #oldVersionsGo(): void {
    const note: StoreNote = { kind: "old_versions_go" };
    for (const { ledger } of this.#all) ledger.add(note);
  }

  /** All go on and end; then a reader that knows nothing finds everything. */
  async end(): Promise<void> {
    for (const writer of this.#alive.values()) await writer.end();
    await using repository = await this.#rig.open({ stateDir: this.#folder.at("reader") });
    for (const { ledger, data } of this.#all) await ledger.expectKept(repository, data);
    const { problems } = await check(repository, { level: "full" }, UNLIMITED);
    expect(problems).to.deep.equal([]);
  }
}

function workOf(): fc.Arbitrary<Work> {
  return fc.record({
    work: fc.oneof(
      { weight: 1, arbitrary: fc.constant("open" as const) },
      { weight: 4, arbitrary: fc.constantFrom(...WORKS) },
    ),
    writer: fc.nat(WRITERS - 1),
    seed: fc.nat(1000),
    holdAfter: fc.option(fc.nat(40), { nil: undefined, freq: 1 }),
  });
}

/** Holds back the next object of that prefix, right before it is put. */
function holdBack(repository: Repository, prefix: string): { isReached: Promise<undefined>; release: () => void } {
  const { backend } = repository.core.parts;
  const put = backend.put.bind(backend);
  const [reached, released] = [deferred<undefined>(), deferred<undefined>()];
  backend.put = async (key, bytes, signal) => {
    if (key.startsWith(prefix)) {
      reached.resolve(undefined);
      await released.promise;
    }
    await put(key, bytes, signal);
  };
  return { isReached: reached.promise, release: () => released.resolve(undefined) };
}

describe("several writers that all believe that they hold the store", function () {
  this.timeout(THOROUGH ? 7_200_000 : 120_000);

  it("lose nothing that was acknowledged to any of them, however they are paused and whatever their clocks say", async () => {
    const skews = fc.array(fc.integer({ min: -3 * DAY_MS, max: 3 * DAY_MS }), {
      minLength: WRITERS,
      maxLength: WRITERS,
    });
    const works = fc.array(workOf(), { minLength: 10, maxLength: 30 });
    const life = fc.asyncProperty(works, skews, fc.boolean(), async (steps, skewsMs, encrypt) => {
      await using folder = await TempFolder.create("leases", fastTempParent());
      const stage = new Stage(folder, await EngineRig.create(folder, { encrypt }), skewsMs);
      try {
        for (let writer = 0; writer < 2; writer += 1) {
          await stage.step({ work: "open", writer, seed: 0, holdAfter: undefined });
        }
        for (const step of steps) await stage.step(step);
        await stage.end();
      } catch (error) {
        throw new Error(`${stage.steps.join("\n")}\n${String(error)}`, { cause: error });
      }
    });
    await fc.assert(life, { numRuns: RUNS, endOnFailure: !THOROUGH });
  });
});

describe("a writer whose lease another has taken", () => {
  const folder = useTempFolder("lease");

  it("is told so at its next commit, its backup and its collection, and what it had committed is there", async () => {
    const rig = await EngineRig.create(folder());
    const data = folder().below("data");
    await using first = await rig.open();
    const ledger = new Ledger();
    const scenario = new StoreScenario(first, data, new FakeClock(), (note) => ledger.add(note));
    await scenario.commit("a", "before");
    await scenario.backup();
    await rm(folder().at("store/leases/lock"));
    await using second = await rig.open({ stateDir: folder().at("other") });
    expect(first.indexDamage.aborted).to.equal(false);
    for (const work of [
      () => scenario.commit("b", randomBytes(10)),
      () => scenario.backup(),
      () => scenario.collect(0),
      () => first.newRecoveryKey(UNLIMITED),
    ])
      expect(await codeOf(work())).to.equal("REPO_LOCKED");
    expect(first.indexDamage.reason).to.have.property("code", "REPO_LOCKED");
    await ledger.expectKept(second, data);
    expect((await check(second, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("is told that the store is away when it is, and makes nothing in the empty place", async () => {
    const rig = await EngineRig.create(folder());
    const first = await rig.open();
    const scenario = new StoreScenario(first, folder().below("data"), new FakeClock(), () => undefined);
    await scenario.commit("a", "before");
    await rename(folder().at("store"), folder().at("elsewhere"));
    await mkdir(folder().at("store"));
    expect(await codeOf(scenario.commit("b", "after"))).to.equal("REPO_NOT_FOUND");
    for (const work of [() => scenario.backup(), () => scenario.collect(0)])
      expect(await codeOf(work())).to.be.oneOf(["REPO_NOT_FOUND", "OBJECT_MISSING"]);
    expect(first.indexDamage.reason).to.have.property("code", "REPO_NOT_FOUND");
    await first[Symbol.asyncDispose]();
    expect(await readdir(folder().at("store"))).to.deep.equal([]);
    await rm(folder().at("store"), { recursive: true });
    await rename(folder().at("elsewhere"), folder().at("store"));
    await using again = await rig.open();
    expect((await check(again, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("is fenced off by the next start but one when the next was cut short before it could", async () => {
    const rig = await EngineRig.create(folder());
    const data = folder().below("data");
    await using first = await rig.open();
    const scenario = new StoreScenario(first, data, new FakeClock(), () => undefined);
    await scenario.commit("a", "before");
    await rm(folder().at("store/leases/lock"));
    const io = new FaultIo();
    io.plan = (_call, path) => (path.includes("/gc/") ? "EIO" : undefined);
    expect(await codeOf(rig.open({ stateDir: folder().at("other"), io }))).to.equal("STORE_IO");
    await using second = await rig.open({ stateDir: folder().at("other") });
    expect(second.writerId).to.not.equal(first.writerId);
    expect(await storeFiles(rig.storeUrl, `commits/${first.writerId}`), "its next number is taken").to.have.length(1);
    expect(await codeOf(scenario.backup())).to.equal("REPO_LOCKED");
  });

  it("cannot begin a collection any more, even when it asked for its lease just before", async () => {
    const rig = await EngineRig.create(folder());
    const data = folder().below("data");
    await using first = await rig.open();
    const scenario = new StoreScenario(first, data, new FakeClock(), () => undefined);
    const doomed = randomBytes(90_000);
    for (let turn = 0; turn < 10; turn += 1) {
      await scenario.commit("a", turn === 0 ? doomed : `turn ${String(turn)}`);
      await scenario.seal();
    }
    const plan = holdBack(first, "gc/");
    const collecting = codeOf(scenario.collect(0));
    await plan.isReached;
    await rm(folder().at("store/leases/lock"));
    await using second = await rig.open({ stateDir: folder().at("other") });
    const ledger = new Ledger();
    const other = new StoreScenario(second, folder().below("more"), new FakeClock(), (note) => ledger.add(note));
    await other.commit("b", doomed); // known: its chunks are in a pack that the first is about to delete
    plan.release();
    expect(await collecting).to.equal("REPO_LOCKED");
    await ledger.expectKept(second, folder().below("more"));
    expect((await check(second, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("cannot commit a backup any more, even when it asked for its lease just before", async () => {
    const rig = await EngineRig.create(folder());
    const data = folder().below("data");
    await using first = await rig.open();
    const scenario = new StoreScenario(first, data, new FakeClock(), () => undefined);
    await scenario.commit("a", "before");
    await scenario.seal();
    await folder().write("data/b", randomBytes(300_000));
    const commit = holdBack(first, "commits/");
    const backup = codeOf(scenario.backup());
    await commit.isReached;
    await rm(folder().at("store/leases/lock"));
    await using second = await rig.open({ stateDir: folder().at("other") });
    await new StoreScenario(second, folder().below("more"), new FakeClock(), () => undefined).collect();
    commit.release();
    expect(await backup).to.equal("REPO_LOCKED");
    await using reader = await rig.open({ readOnly: true, stateDir: folder().at("reader") });
    expect(await reader.listBackups()).to.deep.equal([]);
    expect((await check(reader, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("leaves no lease after a clean end, and one after a crash that the next start takes away", async () => {
    const rig = await EngineRig.create(folder());
    const leases = async (): Promise<number> =>
      (await storeFiles(rig.storeUrl, "leases")).filter((file) => /\/[0-9a-f]{16}$/.test(file)).length;
    {
      await using repository = await rig.open();
      expect(repository.readOnly).to.equal(false);
      expect(await leases()).to.equal(1);
    }
    expect(await leases()).to.equal(0);
    await folder().write("store/leases/00112233445566aa", "a writer that is gone\n");
    await using repository = await rig.open();
    expect(await leases()).to.equal(1);
    expect(await storeFiles(rig.storeUrl, "leases"), "the lock and its own").to.have.length(2);
    expect((await storeFiles(rig.storeUrl, "commits/00112233445566aa")).length, "its next number is taken").to.equal(1);
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });
});
