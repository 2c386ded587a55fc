/**
 * A real process is killed right before a file call of the store, at any of all the calls that a life of a repository
 * makes, parity and a key rotation included: what it had acknowledged is there, and the store is sound and goes on.
 */
import { expect } from "chai";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { writeParity } from "../../src/engine/parity.js";
import { EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { DAY_MS, expectSound, Ledger, type StoreNote } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` kills before every call, else before a few that differ from run to run. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const STEPS = 3;
const CHILD = fileURLToPath(new URL("../support/step-child.js", import.meta.url));

interface Life {
  readonly ledger: Ledger;
  /** File calls that it made; undefined when it was killed. */
  readonly calls: number | undefined;
}

/** Lets a process live until the step, and gives what it said was durable. */
async function live(folder: TempFolder, key: Buffer, step: number | undefined): Promise<Life> {
  const child = spawn(process.execPath, [CHILD, folder.path, key.toString("hex"), String(step)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on("exit", (_code, signal) => resolve(signal)));
  const ledger = new Ledger();
  let calls: number | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const fact = JSON.parse(line) as {
      readonly kind: string;
      readonly calls?: number;
      readonly files?: [string, string][];
    };
    if (fact.kind === "end") calls = fact.calls;
    else ledger.add({ ...fact, ...(fact.files === undefined ? {} : { files: new Map(fact.files) }) } as StoreNote);
  }
  expect(await ended).to.equal(step === undefined ? null : "SIGKILL");
  return { ledger, calls };
}

async function lifeWith(step: number | undefined): Promise<number | undefined> {
  await using folder = await TempFolder.create("kill-step", fastTempParent());
  const keyBytes = randomBytes(32);
  const rig = await EngineRig.create(folder, { keyBytes });
  const { ledger, calls } = await live(folder, keyBytes, step);
  const clock = new FakeClock();
  clock.jumpWall(4 * DAY_MS);
  await using repository = await rig.open({ clock });
  await ledger.expectKept(repository, folder.below("data"));
  await writeParity(repository, { dataPacks: 3, parityPacks: 2 }, UNLIMITED);
  await expectSound(repository);
  await repository.rotateKeys({ unlock: { keyBytes } }, UNLIMITED);
  const slots = await repository.listKeys(UNLIMITED);
  expect(slots.map(({ kind, isRetired }) => `${kind} ${String(isRetired)}`).sort()).to.deep.equal([
    "raw false",
    "recovery false",
  ]);
  return calls;
}

describe("a process that is killed before a file call of the store", function () {
  this.timeout(THOROUGH ? 3_600_000 : 60_000);

  it("loses nothing that it had acknowledged, whichever call it was", async () => {
    const calls = (await lifeWith(undefined)) ?? 0;
    expect(calls).to.be.greaterThan(200);
    const steps = THOROUGH
      ? Array.from({ length: calls }, (_, step) => step)
      : Array.from({ length: STEPS }, () => Math.floor(Math.random() * calls));
    for (const step of steps) {
      try {
        await lifeWith(step);
      } catch (error) {
        throw new Error(`killed before call ${String(step)} of ${String(calls)}: ${String(error)}`, { cause: error });
      }
    }
  });
});
