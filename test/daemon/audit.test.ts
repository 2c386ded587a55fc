/** The audit log of a whole daemon: what was asked for, by whom and how it ended, and what befell files. */
import { unlinkSync } from "node:fs";
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import { RequestAudit } from "../../src/daemon/audit-trail.js";
import { AuditLog } from "../../src/telemetry/audit.js";
import { FakeClock } from "../support/fake-clock.js";
import { launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the audit log of the daemon", () => {
  const folder = useTempFolder("audited");

  it("holds each request that changes something with its outcome, never a secret, and what befell files", async () => {
    const file = await folder().write("data/plan.txt", "a plan");
    for (let index = 0; index < 20; index += 1) await folder().write(`data/other-${String(index)}.txt`, String(index));
    await using daemon = await launchIn(folder(), { sources: [{ name: "data", path: folder().at("data") }] });
    await daemon.operation.start();
    await daemon.operation.started();
    const ask = async (method: "GET" | "POST", url: string, payload?: object): Promise<number> => {
      const headers = { "x-holdfast-in-process": daemon.router.inProcessKey };
      const reply = await daemon.router.http.inject({
        method,
        url,
        headers,
        ...(payload === undefined ? {} : { payload }),
      });
      return reply.statusCode;
    };
    expect(await ask("POST", "/api/v1/backup/keys", { password: "never to be seen" })).to.be.lessThan(300);
    expect(await ask("POST", "/api/v1/backup/incidents/inc_none/approve", {})).to.equal(404);
    expect(await ask("GET", "/api/v1/backup/status")).to.equal(200);
    unlinkSync(file);
    const entries = async (): Promise<readonly { action: string; by: string; detail: Record<string, unknown> }[]> => {
      const found = [];
      for await (const entry of daemon.services.audit.entries()) found.push(entry);
      return found;
    };
    for (let waited = 0; waited < 200; waited += 1) {
      if ((await entries()).some(({ action }) => action === "incident.healed")) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    const all = await entries();
    const writes = all.filter(({ action }) => action === "api.write").reverse();
    expect(writes.map(({ by, detail }) => [by, detail["url"], detail["outcome"]])).to.deep.equal([
      ["this process", "/api/v1/backup/keys", "done"],
      ["this process", "/api/v1/backup/incidents/inc_none/approve", "INCIDENT_NOT_FOUND"],
    ]);
    expect(JSON.stringify(all)).not.to.include("never to be seen");
    const actions = all.map(({ action }) => action);
    expect(actions).to.include.members(["file.lost", "incident.opened", "incident.healed"]);
    const durationMs = Number(all.find(({ action }) => action === "incident.healed")?.detail["durationMs"]);
    expect(durationMs, "no digits that mean nothing").to.equal(Number(durationMs.toPrecision(3)));
    expect(await daemon.services.audit.verify(new AbortController().signal)).to.deep.include({ problems: [] });
  });

  it("tells failed requests of one caller up to sixty a minute, and how many it left out", async () => {
    const clock = new FakeClock();
    const audit = new AuditLog({ folder: folder().at("audit"), clock, log: silentObserver.log });
    const requests = new RequestAudit(audit, clock);
    const ask = (caller: string, outcome: string): void =>
      requests.note({ method: "DELETE", url: "/x", caller, role: "viewer", outcome, body: undefined });
    for (let count = 0; count < 1000; count += 1) ask("uid 1000", "ACCESS_DENIED");
    ask("uid 1000", "done");
    ask("uid 1001", "ACCESS_DENIED");
    await clock.advance(60_000);
    ask("uid 1000", "ACCESS_DENIED");
    const told: string[] = [];
    for await (const { by, detail } of audit.entries())
      told.unshift(`${by} ${String(detail["outcome"])} ${String(detail["left_out_before"])}`);
    expect(told).to.deep.equal([
      ...Array.from({ length: 60 }, () => "uid 1000 ACCESS_DENIED undefined"),
      "uid 1000 done undefined",
      "uid 1001 ACCESS_DENIED undefined",
      "uid 1000 ACCESS_DENIED 940",
    ]);
  });
});
