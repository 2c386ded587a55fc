/**
 * A store whose file calls fail: each kind of call on each kind of object, once or from then on, with a full disk, a
 * failing one, or one that went read-only. The error says which, nothing that was acknowledged is lost, and the same
 * work succeeds as soon as the calls do.
 */
import { expect } from "chai";
import { cp, rm } from "node:fs/promises";
import { type ErrorCode, HoldfastError } from "../../src/base/errors.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { FaultIo } from "../support/fault-io.js";
import { expectSound, Ledger, StoreScenario } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` fails every single call; else one of each kind. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const TIMEOUT_MS = THOROUGH ? 7_200_000 : 240_000;

/** What a caller hears of each failure of the system. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "STORE_FULL",
  EIO: "STORE_IO",
  EROFS: "STORE_READ_ONLY",
};
const ERRNOS = Object.keys(CODES);

/** A call that is made to fail. */
interface Step {
  readonly name: string;
  /** Number of the call, from 0. */
  readonly at: number;
  readonly errno: string;
}

class Rig {
  readonly folder: TempFolder;
  readonly engine: EngineRig;
  readonly io = new FaultIo();
  readonly clock = new FakeClock();
  readonly ledger = new Ledger();

  private constructor(folder: TempFolder, engine: EngineRig) {
    this.folder = folder;
    this.engine = engine;
  }

  static async in(folder: TempFolder): Promise<Rig> {
    return new Rig(folder, await EngineRig.create(folder));
  }

  async open(): Promise<Repository> {
    return await this.engine.open({ io: this.io, clock: this.clock });
  }

  async work(repository: Repository): Promise<void> {
    const data = this.folder.below("data");
    await new StoreScenario(repository, data, this.clock, (note) => this.ledger.add(note)).run();
  }

  async expectKept(repository: Repository): Promise<void> {
    await this.ledger.expectKept(repository, this.folder.below("data"));
    await expectSound(repository);
  }
}

/** Calls to fail: of each call on each kind of object one, anywhere in the work. */
async function stepsToFail(): Promise<Step[]> {
  await using folder = await TempFolder.create("steps", fastTempParent());
  const rig = await Rig.in(folder);
  await using repository = await rig.open();
  await rig.work(repository);
  const kinds = new Map<string, number[]>();
  for (const [at, { call, path }] of rig.io.calls.entries()) {
    const object = path.slice(rig.engine.storeUrl.length).split("/").slice(1, 3).join("/");
    const name = `${call} ${object.replace(/\.?[0-9a-f]{16,}.*/, "").replace(/pack-.*/, "pack")}`;
    kinds.set(name, [...(kinds.get(name) ?? []), at]);
  }
  const all = [...kinds].flatMap(([name, calls]) => {
    const some = THOROUGH ? calls : [calls[Math.floor(Math.random() * calls.length)] ?? 0];
    return some.map((at) => ({ name, at }));
  });
  return all.map(({ name, at }, index) => ({ name, at, errno: ERRNOS[index % ERRNOS.length] ?? "EIO" }));
}

function expectCode(error: unknown, errno: string): void {
  if (!(error instanceof HoldfastError)) throw error;
  expect(error.code).to.equal(CODES[errno]);
}

async function forEachStep(test: (rig: Rig, step: Step) => Promise<void>): Promise<void> {
  const steps = await stepsToFail();
  expect(steps.length).to.be.greaterThan(25);
  for (const step of steps) {
    await using folder = await TempFolder.create("fault", fastTempParent());
    try {
      await test(await Rig.in(folder), step);
    } catch (error) {
      throw new Error(`${step.errno} at call ${String(step.at)}, ${step.name}: ${String(error)}`, { cause: error });
    }
  }
}

describe("when file calls of the store fail", function () {
  this.timeout(TIMEOUT_MS);

  it("nothing is missing whichever call was the last one that reached the store, with any index", async () => {
    await forEachStep(async (rig, { at, errno }) => {
      const { engine, io, folder } = rig;
      io.partialShare = (at % 3) / 2;
      const repository = await rig.open();
      await cp(engine.stateDir, folder.at("old"), { recursive: true });
      io.plan = (_call, _path, index) => (index >= at ? errno : undefined);
      await rig.work(repository).catch((error: unknown) => expectCode(error, errno));
      await repository[Symbol.asyncDispose]();
      io.plan = () => undefined;
      if (at % 3 > 0) await rm(engine.stateDir, { recursive: true });
      if (at % 3 === 1) await cp(folder.at("old"), engine.stateDir, { recursive: true });
      await using again = await rig.open();
      await rig.expectKept(again);
      await rig.work(again);
      await rig.expectKept(again);
    });
  });

  it("one failed call loses nothing, and the work succeeds when it is done again", async () => {
    await forEachStep(async (rig, { at, errno }) => {
      {
        await using repository = await rig.open();
        rig.io.plan = (_call, _path, index) => (index === at ? errno : undefined);
        await rig.work(repository).catch((error: unknown) => expectCode(error, errno));
        rig.io.plan = () => undefined; // commits share writes as they come: not every run makes as many calls
        await rig.expectKept(repository);
        await rig.work(repository);
        await rig.expectKept(repository);
      }
      await using again = await rig.open();
      await rig.expectKept(again);
    });
  });
});
