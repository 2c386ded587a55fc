/** Losses that are told while the state cannot be written, as on a full disk: they are healed when there is room again. */
import { existsSync, readFileSync, unlinkSync } from "node:fs";
import { expect } from "chai";
import { type BytePath, pathText } from "../../src/base/paths.js";
import type { Incident } from "../../src/recovery/incident.js";
import { FakeClock } from "../support/fake-clock.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The disk under the rig's state, as writes of incidents meet it. */
function fillable(rig: RecoveryRig): { isFull: boolean } {
  const disk = { isFull: false };
  const { database } = rig;
  const batch = database.batch.bind(database) as (...given: unknown[]) => unknown;
  const refusal = (): Promise<never> =>
    Promise.reject(Object.assign(new Error("No space left on device"), { code: "LEVEL_IO_ERROR" }));
  Object.defineProperty(database, "batch", {
    value: (...given: unknown[]) => (disk.isFull ? refusal() : batch(...given)),
  });
  Object.defineProperty(rig, "database", { value: database });
  return disk;
}

describe("a loss that cannot be noted", () => {
  const folder = useTempFolder();

  it("is taken again until there is room, and then healed, once", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock });
    const disk = fillable(rig);
    const path = await rig.protect("file", "content");
    await rig.start();
    disk.isFull = true;
    unlinkSync(pathText(path));
    await rig.lose(path);
    await clock.advance(5000);
    await rig.healer.idle();
    expect([existsSync(pathText(path)), rig.events], "no room").to.deep.equal([false, []]);
    disk.isFull = false;
    await clock.advance(5000);
    await rig.healer.idle();
    expect(readFileSync(pathText(path), "utf8")).to.equal("content");
    await clock.advance(20_000);
    expect(rig.events.filter((name) => name === "incident.opened")).to.have.length(1);
  });

  it("is taken again also when it is one of many: they wait for a person as one incident", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock });
    const disk = fillable(rig);
    const paths = [await rig.protect("a", "content"), await rig.protect("b", "content")];
    await rig.start();
    disk.isFull = true;
    for (const path of paths) unlinkSync(pathText(path));
    const how = { source: "data", kind: "deleted", noticedBy: "event", detail: "test" } as const;
    const losses = paths.map((path) => ({ ...how, path, seenAtMs: clock.nowMs() }));
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses });
    await rig.healer.idle();
    disk.isFull = false;
    await clock.advance(5000);
    await rig.healer.idle();
    const incidents = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    expect(incidents.map(({ kind, state, pathCount }) => [kind, state, pathCount])).to.deep.equal([
      ["mass", "waiting", 2],
    ]);
  });
});

describe("a loss whose incident is written and what follows is not", () => {
  const folder = useTempFolder();

  /** Loses files; the disk is full from the moment on at which an incident is opened or healed, until that was tried again. */
  async function lostAsDiskFills(
    rig: RecoveryRig,
    clock: FakeClock,
    { names, fills }: { readonly names: readonly string[]; readonly fills: "opened" | "healing" },
  ): Promise<void> {
    const disk = fillable(rig);
    const paths: BytePath[] = [];
    for (const name of names) paths.push(await rig.protect(name, `content of ${name}`));
    await rig.start();
    let wasFilled = false;
    const fill = (): void => {
      disk.isFull ||= !wasFilled;
      wasFilled = true;
    };
    if (fills === "opened") rig.bus.on("incident.opened", fill);
    else rig.watch.beforeAway = () => Promise.resolve().then(fill);
    for (const path of paths) unlinkSync(pathText(path));
    const how = { source: "data", kind: "deleted", noticedBy: "event", detail: "test" } as const;
    const losses = paths.map((path) => ({ ...how, path, seenAtMs: clock.nowMs() }));
    const [first] = losses;
    if (losses.length > 1 || first === undefined)
      rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses });
    else rig.bus.emit("file.lost", first);
    await rig.healer.idle();
    expect(disk.isFull).to.equal(true);
    await clock.advance(5000);
    await rig.healer.idle();
    disk.isFull = false;
    await clock.advance(5000);
    await rig.healer.idle();
  }

  for (const [what, names, policy, fills, state] of [
    ["many files that wait for a person", ["a", "b"], { mass: "hold" }, "opened", "waiting"],
    ["many files that are healed", ["a", "b"], { mass: "heal" }, "opened", "healed"],
    ["many files of which some are back", ["a", "b"], { mass: "heal" }, "healing", "healed"],
    ["one file that waits for a person", ["a"], { mode: "ask" }, "opened", "waiting"],
    ["one file that is healed", ["a"], {}, "opened", "healed"],
    ["one file that is back", ["a"], {}, "healing", "healed"],
  ] as const)
    it(`stays the one incident, of ${what}, and goes on when there is room again`, async () => {
      const clock = new FakeClock(Date.now());
      await using rig = await RecoveryRig.create(folder(), { clock, policy });
      await lostAsDiskFills(rig, clock, { names, fills });
      const incidents = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
      expect(incidents.map((one) => [one.state, one.pathCount])).to.deep.equal([[state, names.length]]);
      expect(rig.events.filter((name) => name === "incident.opened")).to.have.length(1);
      const isBack = names.map((name) => existsSync(folder().at("data", name)));
      expect(new Set(isBack)).to.deep.equal(new Set([state !== "waiting"]));
    });
});

describe("a heal that was begun, and whose end cannot be written", () => {
  const folder = useTempFolder();

  /** A lost file that waits for a person. */
  async function held(rig: RecoveryRig): Promise<{ readonly path: BytePath; readonly incident: Incident }> {
    const path = await rig.protect("a", "content");
    await rig.start();
    unlinkSync(pathText(path));
    await rig.lose(path);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    if (incident === undefined) throw new Error("nothing is held");
    return { path, incident };
  }

  async function madeRoom(rig: RecoveryRig, clock: FakeClock, disk: { isFull: boolean }): Promise<void> {
    await clock.advance(5000);
    await rig.healer.idle();
    disk.isFull = false;
    await clock.advance(5000);
    await rig.healer.idle();
  }

  for (const [state, mode, after] of [
    ["healing", "ask", "healed"],
    ["open", "protect", "healed"],
    ["open", "ask", "waiting"],
  ] as const)
    it(`since the disk is full at the start (${state}, ${mode}), goes on when there is room`, async () => {
      const clock = new FakeClock(Date.now());
      await using rig = await RecoveryRig.create(folder(), { clock, policy: { mode: "ask" } });
      const disk = fillable(rig);
      const { path, incident } = await held(rig);
      await rig.healer[Symbol.asyncDispose]();
      const value = JSON.stringify({ ...incident, state, reason: "approved" });
      await rig.database.batch([{ type: "put", key: `i!${incident.id}`, value }]);
      rig.policy = { ...rig.policy, mode };
      disk.isFull = true;
      await rig.start();
      await rig.healer.idle();
      await madeRoom(rig, clock, disk);
      expect((await rig.healer.incident(incident.id)).state).to.equal(after);
      expect(existsSync(pathText(path))).to.equal(after === "healed");
    });

  it("since the disk fills while a person's word is obeyed, goes on when there is room", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await RecoveryRig.create(folder(), { clock, policy: { mode: "ask" } });
    const disk = fillable(rig);
    const { path, incident } = await held(rig);
    rig.watch.beforeAway = () => Promise.resolve().then(() => void (disk.isFull = true));
    await rejection(rig.healer.approve(incident.id, NEVER));
    rig.watch.beforeAway = () => Promise.resolve();
    await madeRoom(rig, clock, disk);
    expect((await rig.healer.incident(incident.id)).state).to.equal("healed");
    expect(readFileSync(pathText(path), "utf8")).to.equal("content");
  });
});
