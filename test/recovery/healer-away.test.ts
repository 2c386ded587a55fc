/** Heals that wait for their storage: put off while it is away, and taken up when it is back, whoever finds that first. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { expect } from "chai";
import type { LossEvent } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import type { Incident, IncidentState } from "../../src/recovery/incident.js";
import { FakeClock } from "../support/fake-clock.js";
import { NEVER, RecoveryRig, type RigOptions } from "../support/recovery-rig.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const AWAY = "its file system is not mounted";

describe("a heal whose storage is away", () => {
  const folder = useTempFolder("healer-away");

  for (const [what, tellIsBack] of [
    ["the root returns", (rig) => rig.bus.emit("root.returned", { source: "data", root: rig.folder.bytes("data") })],
    ["the source was looked through", (rig) => rig.bus.emit("watch.ready", { source: "data" })],
    ["some minutes are over", async (_rig, clock) => await clock.advance(10 * 60_000)],
  ] satisfies [string, (rig: RecoveryRig, clock: FakeClock) => void | Promise<void>][])
    it(`is taken up when ${what}`, async () => {
      const clock = new FakeClock(Date.now());
      await using rig = await startedRig(folder(), { clock });
      const path = await losePutOff(rig);
      await tellIsBack(rig, clock);
      await rig.healer.idle();
      expect(existsSync(path), "still away").to.equal(false);
      expect(rig.events, "told once").to.deep.equal(["incident.opened", "incident.held"]);
      rig.watch.away = undefined;
      await tellIsBack(rig, clock);
      await rig.healer.idle();
      expect(existsSync(path)).to.equal(true);
      expect((await newest(rig)).state).to.equal("healed");
      expect((await newest(rig)).putOff).to.equal(undefined);
    });

  it("is taken up after a restart", async () => {
    await using rig = await startedRig(folder());
    const path = await losePutOff(rig);
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    await rig.healer.idle();
    expect((await newest(rig)).state).to.equal("waiting");
    rig.watch.away = undefined;
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    await rig.healer.idle();
    expect(existsSync(path)).to.equal(true);
  });

  it("is taken up once, however many tell that it is back", async () => {
    await using rig = await startedRig(folder());
    await losePutOff(rig);
    rig.watch.away = undefined;
    for (let count = 0; count < 3; count += 1)
      rig.bus.emit("root.returned", { source: "data", root: folder().bytes("data") });
    await rig.healer.idle();
    expect(rig.events).to.deep.equal(["incident.opened", "incident.held", "incident.healed"]);
  });

  it("is taken up when the storage is back before it was written down that it waits", async () => {
    await using rig = await startedRig(folder());
    const path = await rig.protect("a.txt", "text");
    await rm(path);
    returnAtNextLook(rig);
    await rig.lose(path);
    expect(rig.events).to.deep.equal(["incident.opened", "incident.held", "incident.healed"]);
    expect(existsSync(path)).to.equal(true);
  });

  for (const state of ["open", "healing"] satisfies IncidentState[])
    it(`and was interrupted (${state}) goes on when the look itself finds the storage back`, async () => {
      await using rig = await startedRig(folder());
      const path = await losePutOff(rig);
      const { putOff: _putOff, ...incident } = await newest(rig);
      const value = JSON.stringify({ ...incident, state, reason: "under way" });
      await rig.database.batch([{ type: "put", key: `i!${incident.id}`, value }]);
      await rig.healer[Symbol.asyncDispose]();
      returnAtNextLook(rig);
      await rig.start();
      await rig.healer.idle();
      expect(existsSync(path)).to.equal(true);
      expect((await newest(rig)).state).to.equal("healed");
    });

  it("waits for a person where the mode asks, and goes on by itself once they have approved", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const path = await losePutOff(rig);
    const tellIsBack = async (): Promise<void> => {
      rig.bus.emit("root.returned", { source: "data", root: folder().bytes("data") });
      await rig.healer.idle();
    };
    rig.watch.away = undefined;
    await tellIsBack();
    expect((await newest(rig)).state).to.equal("waiting");
    rig.watch.away = AWAY;
    await rig.healer.approve((await newest(rig)).id, NEVER);
    await rig.healer.idle();
    expect(existsSync(path)).to.equal(false);
    rig.watch.away = undefined;
    await tellIsBack();
    expect(existsSync(path)).to.equal(true);
  });

  it("is taken up with all its files when they were lost at once", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths: BytePath[] = [];
    for (const name of ["a", "b", "c"]) paths.push(await rig.protect(name, name));
    for (const path of paths) await rm(path);
    rig.watch.away = AWAY;
    const losses = paths.map((path): LossEvent => {
      return { source: "data", path, kind: "deleted", noticedBy: "event", seenAtMs: Date.now(), detail: "gone" };
    });
    rig.bus.emit("mass.loss", { source: "data", losses, isAttack: false });
    await rig.healer.idle();
    expect(await newest(rig)).to.include({ kind: "mass", state: "failed" });
    rig.watch.away = undefined;
    rig.bus.emit("root.returned", { source: "data", root: folder().bytes("data") });
    await rig.healer.idle();
    expect(paths.every((path) => existsSync(path))).to.equal(true);
    expect((await newest(rig)).state).to.equal("healed");
  });
});

/** Loses a file whose storage is away. */
async function losePutOff(rig: RecoveryRig): Promise<BytePath> {
  const path = await rig.protect("a.txt", "text");
  await rm(path);
  rig.watch.away = AWAY;
  await rig.lose(path);
  expect((await newest(rig)).state).to.equal("waiting");
  return path;
}

/** The next look still finds the storage away; it is back, and told, before the one who looked goes on. */
function returnAtNextLook(rig: RecoveryRig): void {
  rig.watch.away = AWAY;
  rig.watch.awayReasonOf = () => {
    const answer = rig.watch.away;
    rig.watch.away = undefined;
    if (answer !== undefined) rig.bus.emit("root.returned", { source: "data", root: rig.folder.bytes("data") });
    return Promise.resolve(answer);
  };
}

async function newest(rig: RecoveryRig): Promise<Incident> {
  const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
  if (incident === undefined) throw new Error("there is no incident");
  return incident;
}

async function startedRig(folder: TempFolder, options: RigOptions = {}): Promise<RecoveryRig> {
  const rig = await RecoveryRig.create(folder, options);
  await rig.start();
  return rig;
}
