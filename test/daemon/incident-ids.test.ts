/** Incidents of a whole daemon named by the beginning of their id, as backups are. */
import { unlink } from "node:fs/promises";
import { expect } from "chai";
import { launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("incidents over the API", () => {
  const folder = useTempFolder("incident-ids");

  it("are shown, decided and healed by a unique beginning of their id", async () => {
    const file = await folder().write("data/plan.txt", "a plan");
    const source = { name: "data", path: folder().at("data"), on_delete: "hold", settle: "100ms" };
    await using daemon = await launchIn(folder(), { sources: [source] });
    const { recovery } = daemon.services;
    await daemon.operation.start();
    await daemon.operation.started();
    await unlink(file);
    const waiting = async (): Promise<string | undefined> =>
      (await recovery.incidents(true, 9)).find(({ state }) => state === "waiting")?.id;
    let id = await waiting();
    for (let waited = 0; waited < 200 && id === undefined; waited += 1) {
      await new Promise((resolve) => setTimeout(resolve, 25));
      id = await waiting();
    }
    const beginning = id?.slice(0, -3) ?? "";
    expect((await recovery.incident(beginning)).id).to.equal(id);
    expect((await recovery.deny(beginning)).state).to.equal("denied");
    const codes = [recovery.restoreQuarantined(beginning), recovery.approve("inc_zz")].map((asked) =>
      asked.then(
        () => "done",
        (error: unknown) => (error as { code: string }).code,
      ),
    );
    expect(await Promise.all(codes)).to.deep.equal(["QUARANTINE_MISSING", "INCIDENT_NOT_FOUND"]);
  });
});
