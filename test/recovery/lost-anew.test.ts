/** A file of a mass loss that was put back and is lost once more, while the rest is being healed or after some could not be. */
import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { HoldfastError } from "../../src/base/errors.js";
import type { NoticedBy } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import type { IncidentState } from "../../src/recovery/incident.js";
import { FakeClock } from "../support/fake-clock.js";
import { until } from "../support/program.js";
import type { LastGood } from "../../src/recovery/strategy.js";
import { NEVER, RecoveryRig, sha256 } from "../support/recovery-rig.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const NAMES = ["a", "b", "c"];
/** After a file came back a mass incident is looked at when it was quiet for so long. */
const QUIET_MS = 10_000;
const RETRY_MS = 10 * 60_000;
const LIMIT_MS = 10_000;
/** As what a deletion is soon after: not even one in the same millisecond. */
const NEVER_MS = -1;

describe("a file of a mass loss that is lost once more", () => {
  const folder = useTempFolder("lost-anew");

  it("while the rest is being healed, is an incident of its own and comes back as it was last", async () => {
    await using lost = await HalfHealed.create(folder());
    const { rig, first } = lost;
    await writeFile(first, "more work");
    rig.register(first);
    await rm(first);
    rig.bus.emit("file.lost", lossOf(first));
    await until("it is back", LIMIT_MS, () => existsSync(first));
    expect(await readFile(first, "utf8")).to.equal("more work");
    await lost.finish();
    expect(await statesOf(rig)).to.deep.equal(["deleted healed", "mass healed"]);
    expect(NAMES.every((name) => existsSync(folder().at("data", name)))).to.equal(true);
  });

  it("while the rest is being healed, and soon after it was put back, is gone as its owner means it", async () => {
    await using lost = await HalfHealed.create(folder());
    const { rig, first } = lost;
    await rm(first);
    rig.bus.emit("file.lost", lossOf(first));
    await until("it is accepted", LIMIT_MS, () => rig.watch.removalsAccepted.length > 0);
    await lost.finish();
    expect(existsSync(first)).to.equal(false);
    expect(await statesOf(rig)).to.deep.equal(["deleted respected", "mass healed"]);
  });

  it("while the rest is being healed, or only damaged, comes back in good order", async () => {
    await using lost = await HalfHealed.create(folder());
    const { rig, first } = lost;
    await writeFile(first, "");
    rig.bus.emit("file.lost", { ...lossOf(first), kind: "truncated" });
    await until("it is whole", LIMIT_MS, async () => (await readFile(first, "utf8")) === "a");
    await lost.finish();
    expect(await statesOf(rig)).to.deep.equal(["truncated healed", "mass healed"]);
  });

  it("is healed also when others of the incident could not be, for which the next start opens no other", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mass: "heal" } });
    await rig.start();
    const [first, second] = await protectAll(rig);
    rig.versions.damage(rig.watch.known.get(second)?.sha256 ?? "");
    await loseAll(rig, folder());
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["mass failed"]);
    await rig.protect("a", "more work");
    await rm(first);
    await rig.lose(first);
    expect(await readFile(first, "utf8")).to.equal("more work");
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    rig.bus.emit("file.lost", lossOf(second, "start"));
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["deleted healed", "mass failed"]);
    await rig.protect("a", "still more work");
    await rm(first);
    rig.bus.emit("file.lost", lossOf(first, "start"));
    await rig.healer.idle();
    expect(await readFile(first, "utf8"), "lost while no daemon ran").to.equal("still more work");
  });

  for (const state of ["removed", "live"] as const)
    it(`is not put back by the heal that a crash cut short: it is ${state === "live" ? "told as a loss of its own" : "gone as meant"}`, async () => {
      await using rig = await RecoveryRig.create(folder(), { settings: { secondDeletionMs: NEVER_MS } });
      await rig.start();
      const [first, second] = await protectAll(rig);
      await loseAll(rig, folder());
      await rig.healer.idle();
      const id = await cutShort(rig);
      const healedAtMs = Date.now() + 1;
      const good = rig.watch.known.get(first);
      if (good !== undefined) rig.watch.known.set(first, { ...good, healedAtMs, state });
      await rig.start();
      await rig.healer.idle();
      expect([existsSync(first), existsSync(second)]).to.deep.equal([false, true]);
      expect((await rig.healer.incident(id)).state).to.equal("healed");
    });

  it("is not taken at a start for a part of the heal that goes on, though many are told with it", async () => {
    await using rig = await RecoveryRig.create(folder(), { settings: { secondDeletionMs: NEVER_MS } });
    await rig.start();
    const paths = await protectAll(rig);
    await loseAll(rig, folder());
    await rig.healer.idle();
    await cutShort(rig);
    await rig.start(false);
    const losses = paths.map((path) => lossOf(path, "start"));
    const healedAtMs = Date.now() + 60_000; // not within the 0 ms in which a deletion counts as meant
    const again = losses.map((loss) => (loss.path === paths[0] ? { ...loss, healedAtMs } : loss));
    rig.bus.emit("mass.loss", { source: "data", losses: again, isAttack: false });
    await rig.healer.idle();
    const open = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    const held = open.filter(({ state }) => state === "waiting").map((incident) => incident.paths);
    expect(held).to.deep.equal([[paths[0]]]);
  });
});

describe("a mass loss of which some could not be put back", () => {
  const folder = useTempFolder("failed-mass");

  it("is the same incident at each start that tells its files again, and is left to a person who decides", async () => {
    await using rig = await RecoveryRig.create(folder());
    const [first, second, last] = await failedMass(rig, folder());
    const other = await rig.protect("d", "d");
    for (let starts = 0; starts < 2; starts += 1) {
      await startAgain(rig, [first, second]);
      expect(await statesOf(rig)).to.deep.equal(["mass failed"]);
    }
    await rm(other);
    await startAgain(rig, [first, second, other]);
    const [fresh] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect([fresh?.state, fresh?.paths], "lost while no daemon ran").to.deep.equal(["waiting", [other]]);
    rig.versions.damage(sha256("d"));
    await rig.healer.approve(fresh?.id ?? "", NEVER);
    await startAgain(rig, [other, first, second]);
    await startAgain(rig, [first, second]);
    for (const path of [first, other]) {
      rig.bus.emit("file.lost", lossOf(path, "start"));
      await rig.healer.idle();
    }
    expect(await statesOf(rig), "each tells of its own files").to.deep.equal(["mass failed", "mass failed"]);
    expect(existsSync(last)).to.equal(true);
  });

  it("is healed once more at a start, with what was lost since, where the policy says so", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mass: "heal" } });
    const [first, second, last] = await failedMass(rig, folder());
    const other = await rig.protect("d", "d");
    await rm(other);
    await rm(last);
    const good = rig.watch.known.get(last);
    // Worked on since, and then removed as its owner means it.
    if (good !== undefined)
      rig.watch.known.set(last, { ...good, healedAtMs: 0, registeredAtMs: Date.now() + 1, state: "removed" });
    rig.versions.repair();
    await startAgain(rig, [first, second, other]);
    expect(await statesOf(rig)).to.deep.equal(["mass healed"]);
    expect([first, second, other, last].map((path) => existsSync(path))).to.deep.equal([true, true, true, false]);
  });

  it("is healed once more, where the policy says so, also when so little is lost still that it is told one by one", async () => {
    await using rig = await RecoveryRig.create(folder(), { policy: { mass: "heal" } });
    const [first, second] = await failedMass(rig, folder());
    rig.versions.repair();
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    for (const path of [first, second]) rig.bus.emit("file.lost", lossOf(path, "start"));
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["mass healed"]);
    expect([first, second].map((path) => existsSync(path))).to.deep.equal([true, true]);
  });

  it("is tried again after a while, where the policy says so, when their place could not be written", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock, policy: { mass: "heal" } });
    await rig.start();
    const paths = await protectAll(rig);
    rig.versions.damage(sha256("a"));
    rig.watch.expectOwnWrite = () => {
      throw new HoldfastError("TARGET_IO", "the disk is full");
    };
    await loseAll(rig, folder());
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["mass failed"]);
    rig.watch.expectOwnWrite = () => undefined;
    rig.versions.repair();
    await clock.advance(RETRY_MS);
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["mass healed"]);
    expect(paths.map((path) => existsSync(path))).to.deep.equal([true, true, true]);
  });

  it("is over when the others are there again, whoever put them there", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock });
    const [first, second] = await failedMass(rig, folder());
    await writeFile(first, "a");
    rig.bus.emit("file.returned", { source: "data", path: first });
    await clock.advance(QUIET_MS);
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["mass failed"]);
    rig.versions.repair();
    await rig.healer.recover("data", second, {}, NEVER);
    await clock.advance(QUIET_MS);
    await rig.healer.idle();
    expect(await statesOf(rig)).to.deep.equal(["deleted healed", "mass returned"]);
  });
});

/** A mass loss of three files that was healed but for the first two; nobody runs any more. */
async function failedMass(rig: RecoveryRig, folder: TempFolder): Promise<readonly [BytePath, BytePath, BytePath]> {
  await rig.start();
  const paths = await protectAll(rig);
  for (const name of NAMES.slice(0, 2)) rig.versions.damage(sha256(name));
  await loseAll(rig, folder);
  await rig.healer.idle();
  const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
  if (incident?.state === "waiting") await rig.healer.approve(incident.id, NEVER);
  expect(await statesOf(rig)).to.deep.equal(["mass failed"]);
  return paths;
}

/** Starts the next healer, which is told of these as lost. */
async function startAgain(rig: RecoveryRig, lost: readonly BytePath[]): Promise<void> {
  await rig.healer[Symbol.asyncDispose]();
  await rig.start();
  for (const path of lost) {
    const good = rig.watch.known.get(path);
    if (good !== undefined) rig.watch.known.set(path, { ...good, state: "lost" });
  }
  const losses = lost.map((path) => lossOf(path, "start"));
  rig.bus.emit("mass.loss", { source: "data", losses, isAttack: false });
  await rig.healer.idle();
}

/** A mass loss of three files that is being healed: the first is back, the last waits for `finish`. */
class HalfHealed implements AsyncDisposable {
  readonly rig: RecoveryRig;
  readonly first: BytePath;
  readonly #release: () => void;

  private constructor(rig: RecoveryRig, first: BytePath, release: () => void) {
    this.rig = rig;
    this.first = first;
    this.#release = release;
  }

  static async create(folder: TempFolder): Promise<HalfHealed> {
    const rig = await RecoveryRig.create(folder, { policy: { mass: "heal" } });
    await rig.start();
    const [first, , last] = await protectAll(rig);
    const gate = deferred<undefined>();
    rig.watch.beforeAway = async (path) => {
      if (path === last) await gate.promise;
    };
    await loseAll(rig, folder);
    const good = (): LastGood | undefined => rig.watch.known.get(first);
    await until("the first is back", LIMIT_MS, () => (good()?.healedAtMs ?? 0) > 0);
    return new HalfHealed(rig, first, () => gate.resolve(undefined));
  }

  async finish(): Promise<void> {
    this.#release();
    await this.rig.healer.idle();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#release();
    await this.rig[Symbol.asyncDispose]();
  }
}

async function protectAll(rig: RecoveryRig): Promise<readonly [BytePath, BytePath, BytePath]> {
  return [await rig.protect("a", "a"), await rig.protect("b", "b"), await rig.protect("c", "c")];
}

async function loseAll(rig: RecoveryRig, folder: TempFolder): Promise<void> {
  for (const name of NAMES) await rm(folder.at("data", name));
  const losses = NAMES.map((name) => lossOf(folder.bytes(`data/${name}`)));
  rig.bus.emit("mass.loss", { source: "data", losses, isAttack: false });
}

function lossOf(path: BytePath, noticedBy: NoticedBy = "event") {
  return { source: "data", path, kind: "deleted", noticedBy, seenAtMs: Date.now(), detail: "gone" } as const;
}

/** Newest first. */
async function statesOf(rig: RecoveryRig): Promise<string[]> {
  return (await rig.healer.incidents({ onlyOpen: false, limit: 9 })).map(({ kind, state }) => `${kind} ${state}`);
}

/** Ends the healer as a crash amid the heal of its one incident would; gives the incident's id. */
async function cutShort(rig: RecoveryRig): Promise<string> {
  const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
  const id = incident?.id ?? "";
  await rig.healer[Symbol.asyncDispose]();
  const state: IncidentState = "healing";
  const value = JSON.stringify({ ...incident, state, reason: "approved" });
  await rig.database.batch([{ type: "put", key: `i!${id}`, value }]);
  return id;
}
