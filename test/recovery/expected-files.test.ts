/** Incidents about files that a source is expected to hold: one each, until they are there again. */
import { expect } from "chai";
import type { Incident } from "../../src/recovery/incident.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const MISSING = { source: "data", match: "dumps/*.sql", detail: "1 of at least 3 files are there" };

describe("an incident about expected files", () => {
  const folder = useTempFolder("expected");

  async function incidentsOf(rig: RecoveryRig): Promise<readonly Incident[]> {
    await rig.healer.idle();
    return await rig.healer.incidents({ onlyOpen: false, limit: 10 });
  }

  it("is opened once, stands while they are missing, and ends when they are there", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    rig.bus.emit("files.missing", MISSING);
    rig.bus.emit("files.missing", { ...MISSING, detail: "0 of at least 3 files are there" });
    const [incident, ...others] = await incidentsOf(rig);
    expect(others).to.deep.equal([]);
    expect(incident).to.include({ kind: "expected_missing", state: "noted", pathCount: 0 });
    expect(incident?.detail).to.equal("dumps/*.sql: 0 of at least 3 files are there");
    rig.bus.emit("files.expected", { source: "data", match: "other" });
    expect((await incidentsOf(rig))[0]?.state).to.equal("noted");
    rig.bus.emit("files.expected", { source: "data", match: MISSING.match });
    expect((await incidentsOf(rig))[0]?.state).to.equal("returned");
    rig.bus.emit("files.missing", MISSING);
    expect(await incidentsOf(rig)).to.have.length(2);
  });

  it("is the same one after a restart, and ends though it was opened before", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    rig.bus.emit("files.missing", MISSING);
    await rig.healer.idle();
    await rig.healer[Symbol.asyncDispose]();
    await rig.start();
    rig.bus.emit("files.missing", MISSING);
    expect(await incidentsOf(rig)).to.have.length(1);
    rig.bus.emit("files.expected", MISSING);
    expect((await incidentsOf(rig))[0]?.state).to.equal("returned");
  });

  it("cannot be healed, for nothing is known to be lost; a person can accept it", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    rig.bus.emit("files.missing", MISSING);
    const [incident] = await incidentsOf(rig);
    expect(await rejection(rig.healer.approve(incident?.id ?? "", NEVER))).to.include({ code: "INCIDENT_STATE" });
    expect((await rig.healer.deny(incident?.id ?? "")).state).to.equal("denied");
  });
});
