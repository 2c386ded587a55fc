/** Many losses at once: one incident, one decision, everything back or everything accepted. */
import { existsSync } from "node:fs";
import { lstat, readFile, rename, rm, truncate, writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { LossEvent } from "../../src/base/events.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { FakeClock } from "../support/fake-clock.js";
import { NEVER, RecoveryRig, type RigOptions } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("healing many files", () => {
  const folder = useTempFolder("healing-many");

  it("makes one incident of a mass loss; one approval brings all back, with a report", async function () {
    this.timeout(60_000);
    await using rig = await startedRig(folder());
    const paths = await protectMany(rig, 1000);
    const sub = rig.register(folder().bytes("data/sub"));
    const subBefore = await lstat(folder().at("data/sub"), { bigint: true });
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", {
      source: "data",
      isAttack: false,
      losses: [...paths.slice(0, 900), sub].map((path) => lossOf(path)),
    });
    await rig.healer.idle();
    rig.bus.emit("mass.loss", {
      source: "data",
      isAttack: false,
      losses: paths.slice(890).map((path) => lossOf(path)),
    });
    await rig.healer.idle();
    const incidents = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    expect(incidents.map((incident) => [incident.kind, incident.state, incident.pathCount])).to.deep.equal([
      ["mass", "waiting", 1001],
    ]);
    expect(existsSync(folder().at("data"))).to.equal(false);
    const report = await rig.healer.approve(incidents[0]?.id ?? "", NEVER);
    expect([report.healed, report.failed, report.pathsTotal]).to.deep.equal([1001, 0, 1001]);
    for (const path of paths) expect(await readFile(path, "utf8")).to.equal(`content of ${path}`);
    expect((await lstat(folder().at("data/sub"), { bigint: true })).mtimeNs).to.equal(subBefore.mtimeNs);
    expect((await rig.healer.incident(incidents[0]?.id ?? "")).counts).to.deep.include({ healed: 1001 });
  });

  it("holds what goes on, in one incident, and heals by itself only when it is over", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths = await protectMany(rig, 60);
    await rm(folder().at("data"), { recursive: true });
    const tell = (from: number, to: number, goesOn?: boolean): void => {
      const losses = paths.slice(from, to).map((path) => lossOf(path));
      rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses, ...(goesOn === true ? { goesOn } : {}) });
    };
    tell(0, 20, true);
    tell(20, 40, true);
    await rig.healer.idle();
    const held = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    expect(held.map(({ state, pathCount }) => [state, pathCount])).to.deep.equal([["waiting", 40]]);
    expect(existsSync(folder().at("data"))).to.equal(false);
    tell(40, 60, true);
    tell(60, 60);
    await rig.healer.idle();
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
    expect([incident?.id, incident?.state, incident?.counts?.healed]).to.deep.equal([held[0]?.id, "healed", 60]);
  });

  it("tells in the end how many files an incident holds whose first ones were told early", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "hold" } });
    const paths = await protectMany(rig, 30);
    await rm(folder().at("data"), { recursive: true });
    const held: number[] = [];
    rig.bus.on("incident.held", ({ paths: count }) => void held.push(count));
    const losses = paths.map((path) => lossOf(path));
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: losses.slice(0, 12), goesOn: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: losses.slice(12) });
    await rig.healer.idle();
    expect(held).to.deep.equal([12, 30]);
  });

  it("leaves to a person what an attack joined before it was over", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths = await protectMany(rig, 30);
    await rm(folder().at("data"), { recursive: true });
    const losses = paths.map((path) => lossOf(path));
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: losses.slice(0, 12), goesOn: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: true, losses: losses.slice(12) });
    await rig.healer.idle();
    const incidents = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    expect(incidents.map(({ state, pathCount }) => [state, pathCount])).to.deep.equal([["waiting", 30]]);
  });

  it("counts a folder as healed that a file in it brought back first, and gives it its times in the end", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths = await protectMany(rig, 40);
    const sub = rig.register(folder().bytes("data/sub"));
    const before = await lstat(sub, { bigint: true });
    await rm(folder().at("data"), { recursive: true });
    rig.watch.beforeAway = async (path) => {
      while (path === sub && !paths.some((file) => existsSync(file)))
        await new Promise((resolve) => setImmediate(resolve));
    };
    const losses = [sub, ...paths].map((path) => lossOf(path));
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses });
    await rig.healer.idle();
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
    expect(incident?.counts).to.deep.include({ healed: 41, returned: 0, failed: 0 });
    expect((await lstat(sub, { bigint: true })).mtimeNs).to.equal(before.mtimeNs);
  });

  it("accepts a whole mass loss by one denial", async () => {
    await using rig = await startedRig(folder());
    const paths = await protectMany(rig, 60);
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    await rig.healer.deny(incident?.id ?? "");
    expect([...rig.watch.removalsAccepted].sort()).to.deep.equal([...paths].sort());
  });

  it("heals a mass loss at once where the policy says so", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths = await protectMany(rig, 60);
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    expect(paths.every((path) => existsSync(path))).to.equal(true);
  });

  it("heals nothing of a held mass loss that is told alone after a restart", async () => {
    await using rig = await startedRig(folder());
    const paths = await protectMany(rig, 60);
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    for (const path of paths.slice(57)) await rig.lose(path);
    expect(paths.some((path) => existsSync(path))).to.equal(false);
    expect(await rig.healer.incidents({ onlyOpen: false, limit: 9 })).to.have.length(1);
  });

  it("leaves an attack to a person also where the policy heals a mass loss, and over a restart", async () => {
    await using rig = await startedRig(folder(), { policy: { mass: "heal" } });
    const paths = await protectMany(rig, 5);
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: true, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident).to.include({ kind: "mass", state: "waiting" });
    expect(incident?.reason).to.contain("attacked");
    const key = `i!${incident?.id ?? ""}`;
    await rig.database.batch([{ type: "put", key, value: JSON.stringify({ ...incident, state: "open" }) }]);
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    await rig.healer.idle();
    expect((await rig.healer.incident(incident?.id ?? "")).state).to.equal("waiting");
    expect(paths.some((path) => existsSync(path))).to.equal(false);
  });

  it("says which incident holds an attack, also when that was open before it began", async () => {
    await using rig = await startedRig(folder());
    const held: string[] = [];
    rig.bus.on("attack.held", ({ id }) => held.push(id));
    const losses = (await protectMany(rig, 6)).map((path) => lossOf(path));
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: losses.slice(0, 2) });
    await rig.healer.idle();
    expect(held).to.deep.equal([]);
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    rig.bus.emit("mass.loss", { source: "data", isAttack: true, losses: losses.slice(2, 4) });
    await rig.healer.idle();
    const [before] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(held).to.deep.equal([before?.id]);
    await rig.healer.deny(before?.id ?? "");
    rig.bus.emit("mass.loss", { source: "data", isAttack: true, losses: losses.slice(4) });
    await rig.healer.idle();
    const [after] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(held).to.deep.equal([before?.id, after?.id]);
  });

  it("recovers all findings of a scan and reports them", async () => {
    await using rig = await startedRig(folder());
    const paths = await protectMany(rig, 30);
    for (const path of paths.slice(0, 25)) await rm(path);
    await truncate(paths[26] ?? "", 0);
    const findings = [
      ...paths.slice(0, 25).map((path) => ({ source: "data", path, kind: "deleted" as const, detail: "missing" })),
      { source: "data", path: paths[26] as BytePath, kind: "truncated" as const, detail: "empty" },
    ];
    const report = await rig.healer.recoverAll(findings, NEVER);
    expect([report.healed, report.failed]).to.deep.equal([26, 0]);
    expect(await readFile(paths[26] ?? "", "utf8")).to.equal(`content of ${paths[26] ?? ""}`);
  });

  it("lets a person try again what they interrupted", async () => {
    await using rig = await startedRig(folder());
    const paths = await protectMany(rig, 200);
    await rm(folder().at("data"), { recursive: true });
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    const id = (await rig.healer.incidents({ onlyOpen: true, limit: 1 }))[0]?.id ?? "";
    const stop = new AbortController();
    const first = rejection(rig.healer.approve(id, stop.signal));
    while (!existsSync(paths[100] ?? "")) await new Promise((resolve) => setImmediate(resolve));
    stop.abort(new Error("enough"));
    await first;
    expect((await rig.healer.incident(id)).state).to.equal("failed");
    const report = await rig.healer.approve(id, NEVER);
    expect(report.healed + report.returned).to.equal(200);
    expect((await rig.healer.incident(id)).state).to.equal("healed");
    expect(paths.every((path) => existsSync(path))).to.equal(true);
  });

  it("closes a mass incident when all its files came back", async () => {
    const clock = new FakeClock(Date.now());
    await using rig = await startedRig(folder(), { clock });
    const paths = await protectMany(rig, 60);
    await rename(folder().at("data"), folder().at("away"));
    rig.bus.emit("mass.loss", { source: "data", isAttack: false, losses: paths.map((path) => lossOf(path)) });
    await rig.healer.idle();
    await rename(folder().at("away"), folder().at("data"));
    for (const path of paths) rig.bus.emit("file.returned", { source: "data", path });
    await rig.healer.idle();
    await clock.advance(6_000);
    await rig.healer.idle();
    expect((await rig.healer.incidents({ onlyOpen: false, limit: 1 }))[0]?.state).to.equal("returned");
  });
});

async function startedRig(folder: TempFolder, options: RigOptions = {}): Promise<RecoveryRig> {
  const rig = await RecoveryRig.create(folder, options);
  await rig.start();
  return rig;
}

function lossOf(path: BytePath): LossEvent {
  return { source: "data", path, kind: "deleted", noticedBy: "event", seenAtMs: Date.now(), detail: "gone" };
}

async function protectMany(rig: RecoveryRig, count: number): Promise<BytePath[]> {
  const paths: BytePath[] = [];
  for (let index = 0; index < count; index += 1) {
    const name = `sub/${String(index % 10)}/file-${String(index)}`;
    const file = await rig.folder.write(`data/${name}`, "");
    await writeFile(file, `content of ${file}`);
    paths.push(rig.register(pathFromText(file)));
  }
  return paths;
}
