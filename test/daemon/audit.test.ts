/** The audit log of a whole daemon: what was asked for, by whom and how it ended, and what befell files. */
import { unlinkSync } from "node:fs";
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import * as contract from "../../src/api/contract.js";
import { RequestAudit } from "../../src/daemon/audit-trail.js";
import { JobRunner } from "../../src/policy/job-runner.js";
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
    const ask = async (method: "GET" | "POST" | "PATCH", url: string, payload?: object): Promise<number> => {
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
    const target = await folder().write("a-file", "where a folder is needed");
    expect(await ask("POST", "/api/v1/backup/restore", { backup_id: "latest", target })).to.equal(202);
    expect(await ask("PATCH", "/api/v1/backup/backups/latest", { pinned: true })).to.equal(200);
    expect(await ask("GET", "/api/v1/backup/status")).to.equal(200);
    unlinkSync(file);
    const entries = async (): Promise<readonly { action: string; by: string; detail: Record<string, unknown> }[]> => {
      const found = [];
      for await (const entry of daemon.services.audit.entries()) found.push(entry);
      return found;
    };
    for (let waited = 0; waited < 200; waited += 1) {
      const known = (await entries()).map(({ action }) => action);
      if (known.includes("incident.healed") && known.includes("job.ended")) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    const all = await entries();
    const writes = all.filter(({ action }) => action === "api.write").reverse();
    expect(writes.map(({ by, detail }) => [by, detail["url"], detail["outcome"], detail["asked"]])).to.deep.equal([
      ["this process", "/api/v1/backup/keys", "done", { password: "[secret]" }],
      ["this process", "/api/v1/backup/incidents/inc_none/approve", "INCIDENT_NOT_FOUND", {}],
      ["this process", "/api/v1/backup/restore", "accepted", { backup_id: "latest", target }],
      ["this process", "/api/v1/backup/backups/latest", "done", { pinned: true }],
    ]);
    const job = writes[2]?.detail["job"];
    const ended = all.filter(({ action }) => action === "job.ended");
    expect(job).to.be.a("string");
    expect(ended.map(({ by, detail }) => [by, detail])).to.deep.equal([
      ["this process", { job, kind: "restore", outcome: "TARGET_EXISTS" }],
    ]);
    expect(JSON.stringify(all)).not.to.include("never to be seen");
    const actions = all.map(({ action }) => action);
    expect(actions).to.include.members(["file.lost", "incident.opened", "incident.healed"]);
    const durationMs = Number(all.find(({ action }) => action === "incident.healed")?.detail["durationMs"]);
    expect(durationMs, "no digits that mean nothing").to.equal(Number(durationMs.toPrecision(3)));
    expect(await daemon.services.audit.verify(new AbortController().signal)).to.deep.include({ problems: [] });
  });

  it("holds whatever a request may ask for, of passwords only that one was given", async () => {
    const { audit, requests } = requestsIn(folder().at("audit"), new FakeClock());
    const withheld: string[] = [];
    for (const [name, shape] of Object.entries(contract).filter(([its]) => /[bB]ody$/.test(its))) {
      const fields = Object.keys((shape as { readonly properties: object }).properties);
      const body = Object.fromEntries(fields.map((field) => [field, name]));
      requests.note({ method: "POST", url: "/x", caller: "uid 0", role: "admin", outcome: "done", body });
      const entry = await firstOf(audit.entries());
      const asked = entry?.detail["asked"] as Record<string, unknown>;
      withheld.push(...fields.filter((field) => asked[field] !== name));
    }
    expect(withheld).to.deep.equal(["password", "new_password"]);
  });

  it("tells how a job ended that a request began, by whom it was asked for, however soon it ended", async () => {
    const { audit, requests, jobs } = requestsIn(folder().at("audit"), new FakeClock());
    const soon = jobs.start("verify", "read", () => Promise.resolve(1)).id;
    await jobs.ended(soon);
    const held = jobs.start("restore", "read", async ({ signal }) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      throw signal.reason;
    }).id;
    jobs.start("scan", "heal", () => Promise.resolve("by the schedule"));
    for (const [job, caller] of [
      [soon, "uid 1"],
      [held, "uid 2"],
    ] as const)
      requests.note({ method: "POST", url: "/x", caller, role: "admin", outcome: "accepted", job, body: undefined });
    jobs.cancel(held);
    await jobs.ended(held);
    const told: unknown[] = [];
    for await (const { action, by, detail } of audit.entries()) if (action === "job.ended") told.unshift([by, detail]);
    expect(told).to.deep.equal([
      ["uid 1", { job: soon, kind: "verify", outcome: "done" }],
      ["uid 2", { job: held, kind: "restore", outcome: "cancelled" }],
    ]);
  });

  it("tells failed requests of one caller up to sixty a minute, and how many it left out", async () => {
    const clock = new FakeClock();
    const { audit, requests } = requestsIn(folder().at("audit"), clock);
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

function requestsIn(
  folder: string,
  clock: FakeClock,
): { readonly audit: AuditLog; readonly requests: RequestAudit; readonly jobs: JobRunner } {
  const { log } = silentObserver;
  const jobs = new JobRunner(clock, log);
  const audit = new AuditLog({ folder, clock, log });
  return { audit, requests: new RequestAudit(audit, clock, jobs), jobs };
}

async function firstOf<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item;
  return undefined;
}
