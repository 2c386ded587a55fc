/** Losses that are told while the state cannot be written, as on a full disk: they are healed when there is room again. */
import { existsSync, readFileSync, unlinkSync } from "node:fs";
import { expect } from "chai";
import { pathText } from "../../src/base/paths.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecoveryRig } from "../support/recovery-rig.js";
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
