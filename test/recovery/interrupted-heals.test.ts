/** What becomes of an incident whose heal was done, or not, when the daemon was killed. */
import { rm } from "node:fs/promises";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a heal that was interrupted", () => {
  const folder = useTempFolder("interrupted-heals");

  it("says of what it had put back before it was interrupted that it healed it, and of what is there otherwise not", async () => {
    for (const [isOurs, state] of [
      [true, "healed"],
      [false, "returned"],
    ] as const) {
      await using rig = await RecoveryRig.create(folder(), { policy: { mode: "ask" } });
      await rig.start();
      const lost = await rig.protect("a.txt", "text");
      await rm(folder().at("data/a.txt"));
      await rig.lose(lost);
      const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
      const id = incident?.id ?? "";
      const record = JSON.parse((await rig.database.get(`i!${id}`)) ?? "") as Record<string, unknown>;
      const value = JSON.stringify({ ...record, state: "healing", reason: "under way" });
      await rig.database.batch([{ type: "put", key: `i!${id}`, value }]);
      await rig.healer[Symbol.asyncDispose]();
      await folder().write("data/a.txt", "text");
      const good = rig.watch.known.get(lost);
      if (good !== undefined && isOurs) rig.watch.known.set(lost, { ...good, healedAtMs: Date.now() + 1 });
      await rig.start();
      await rig.healer.idle();
      expect((await rig.healer.incident(id)).state).to.equal(state);
    }
  });

  it("takes what the start tells anew of a mass loss for its own, and opens an incident for the rest alone", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const paths: BytePath[] = [];
    for (const name of ["a", "b", "c"]) paths.push(await rig.protect(name, name));
    for (const name of ["a", "b", "c"]) await rm(folder().at(`data/${name}`));
    const tell = async (lost: readonly BytePath[], noticedBy: "event" | "start"): Promise<void> => {
      const about = { source: "data", kind: "deleted", noticedBy, seenAtMs: Date.now(), detail: "" } as const;
      rig.bus.emit("mass.loss", { source: "data", losses: lost.map((path) => ({ ...about, path })), isAttack: false });
      await rig.healer.idle();
    };
    await tell(paths.slice(0, 2), "event");
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 9 });
    const id = incident?.id ?? "";
    await rig.healer[Symbol.asyncDispose]();
    const record = JSON.parse((await rig.database.get(`i!${id}`)) ?? "") as Record<string, unknown>;
    const value = JSON.stringify({ ...record, state: "healing", reason: "approved" });
    await rig.database.batch([{ type: "put", key: `i!${id}`, value }]);
    await rig.start(false);
    await tell(paths.slice(0, 2), "start");
    expect(await rig.healer.incidents({ onlyOpen: true, limit: 9 })).to.have.length(1);
    await tell(paths, "start");
    rig.bus.emit("watch.ready", { source: "data" });
    await rig.healer.idle();
    const all = await rig.healer.incidents({ onlyOpen: false, limit: 9 });
    expect(all.map(({ state, pathCount }) => [state, pathCount])).to.deep.equal([
      ["waiting", 1],
      ["healed", 2],
    ]);
  });
});
