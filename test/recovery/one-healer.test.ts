/** Several who want to decide about one incident: one of them does. */
import { rm } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import type { LossEvent } from "../../src/base/events.js";
import type { BytePath } from "../../src/base/paths.js";
import { NEVER, RecoveryRig, type RigOptions, sha256 } from "../support/recovery-rig.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("the healer of an incident", () => {
  const folder = useTempFolder("one-healer");

  it("is one for each incident, however many claim it at once", async () => {
    await using rig = await startedRig(folder(), { policy: { mode: "ask" } });
    const path = await rig.protect("a.txt", "text");
    await rm(folder().at("data/a.txt"));
    await rig.lose(path);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    const { id } = incident ?? { id: "" };
    const claims = await Promise.allSettled([
      rig.healer.approve(id, NEVER),
      rig.healer.deny(id),
      rig.healer.approve(id, NEVER),
      rig.healer.recover("data", path, {}, NEVER),
      rig.healer.approve(id, NEVER),
    ]);
    const lost = claims.flatMap((claim) => (claim.status === "rejected" ? [claim.reason as unknown] : []));
    for (const error of lost) expect(error).to.have.property("code", "INCIDENT_STATE");
    expect(claims.length - lost.length, "one of them has it").to.equal(1);
    const healed = (await rig.healer.incident(id)).state === "healed";
    expect(rig.watch.ownWrites.filter((write) => write.path === path)).to.have.length(healed ? 1 : 0);
    expect(rig.watch.removalsAccepted).to.have.length(healed ? 0 : 1);
  });

  it("leaves an incident that waits for its turn to a person who was faster", async () => {
    await using rig = await startedRig(folder(), { settings: { parallel: 1 } });
    const [slow, wanted] = [await rig.protect("slow.txt", "slow"), await rig.protect("wanted.txt", "wanted")];
    const gate = deferred<undefined>();
    const read = rig.versions.readContent.bind(rig.versions);
    rig.versions.readContent = async function* (node) {
      if (node.sha256 === sha256("slow")) await gate.promise;
      yield* read(node);
    };
    for (const name of ["slow.txt", "wanted.txt"]) await rm(folder().at("data", name));
    for (const path of [slow, wanted]) rig.bus.emit("file.lost", lossOf(path));
    while ((await rig.healer.incidents({ onlyOpen: true, limit: 9 })).length < 2) await setImmediate();
    expect((await rig.healer.recover("data", wanted, {}, NEVER)).outcome).to.equal("healed");
    gate.resolve(undefined);
    await rig.healer.idle();
    const incidents = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
    expect(incidents.map(({ state }) => state)).to.deep.equal(["healed", "healed"]);
    for (const path of [slow, wanted])
      expect(rig.watch.ownWrites.filter((write) => write.path === path)).to.have.length(1);
    expect(rig.events.filter((name) => name === "incident.healed")).to.have.length(2);
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
