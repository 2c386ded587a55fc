/** The API over a real Unix socket: routing, shapes, problems, paging, keys, events, limits, closing. */
import { expect } from "chai";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { link, lstat, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, createServer } from "node:net";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Judge } from "../../src/api/access.js";
import { ApiClient } from "../../src/api/client.js";
import { inProcessTransport } from "../../src/api/in-process.js";
import { type WriteNote, createRouter } from "../../src/api/router.js";
import { ApiServer } from "../../src/api/server.js";
import type { JobDocument } from "../../src/api/services.js";
import { socketTransport } from "../../src/api/socket-transport.js";
import { systemClock } from "../../src/base/clock.js";
import { hasCode } from "../../src/base/errors.js";
import { Secret, silentObserver } from "../../src/base/observe.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { send, startServer } from "./api-server.js";
import { doneJob, fakeServices } from "./fake-services.js";

const BASE = "/api/v1/backup";
const never = new AbortController().signal;

/** Names are permanent: scripts rely on them. */
const CANONICAL = [
  ["get post", "backups"],
  ["delete get patch", "backups/{id}"],
  ["get", "backups/{id}/files"],
  ["post", "backups/{id}/verify"],
  ["get", "diff"],
  ["get", "versions"],
  ["post", "restore"],
  ["delete get", "restore/{id}"],
  ["get post", "sources"],
  ["delete get patch", "sources/{name}"],
  ["post", "sources/{name}/cbt/init"],
  ["get", "sources/{name}/cbt/stats"],
  ["post", "vms/{name}/cbt/init"],
  ["get", "vms/{name}/cbt/stats"],
  ["get post", "retention/policies"],
  ["delete get put", "retention/policies/{id}"],
  ["get", "retention/preview"],
  ["get", "schedules"],
  ["get", "tiers"],
  ["get post", "verifications"],
  ["get", "incidents"],
  ["post", "incidents/{id}/approve"],
  ["post", "recovery/scan"],
  ["post", "recovery/recover"],
  ["post", "recovery/batch"],
  ["get", "alerts"],
  ["get", "jobs"],
  ["delete get", "jobs/{id}"],
  ["get", "events"],
  ["get", "health"],
  ["get", "stats"],
] as const;

describe("the API on its socket", () => {
  const folder = useTempFolder("api");
  const socket = (): string => folder().at("api.sock");

  it("answers curl", async function () {
    requirePrograms(this, "curl");
    await using served = await startServer(socket());
    const args = ["-s", "--unix-socket", served.socketPath, "http://localhost/api/v1/backup/status"];
    const { stdout } = await promisify(execFile)("curl", args);
    expect(JSON.parse(stdout)).to.include({ version: "0.1.0", state: "healthy" });
  });

  it("serves the short forms of the seeds by the same handlers", async () => {
    await using served = await startServer(socket());
    const long = await send(socket(), { path: `${BASE}/backups` });
    const short = await send(socket(), { path: "/api/backup" });
    expect(short.text).to.equal(long.text);
    const health = await send(socket(), { path: "/api/backup/health" });
    expect(health.json()).to.include({ state: "healthy" });
    const made = await send(socket(), {
      method: "POST",
      path: "/api/backup",
      body: '{"type":"full","sources":["data"],"compression":true,"encryption":false}',
    });
    expect(made.status).to.equal(202);
    const body = '{"backup_id":"latest","files":[],"target_path":null,"verify":true}';
    expect((await send(socket(), { method: "POST", path: "/api/backup/restore", body })).status).to.equal(202);
    const recover = '{"file_path":"/data/a","strategy":"auto","target_timestamp":null}';
    expect((await send(socket(), { method: "POST", path: "/api/recovery/recover", body: recover })).status).to.equal(
      202,
    );
    expect((await send(socket(), { method: "POST", path: "/api/recovery/scan" })).status).to.equal(202);
    expect((await send(socket(), { method: "DELETE", path: "/api/backup/backup_2026" })).status).to.equal(202);
    expect(served.services.calls).to.have.length(7);
  });

  it("serves every canonical route that stands", async () => {
    await using _served = await startServer(socket());
    const { paths } = (await send(socket(), { path: "/openapi.json" })).json() as { paths: Record<string, object> };
    for (const [methods, name] of CANONICAL) {
      expect(Object.keys(paths[`${BASE}/${name}`] ?? {}).sort(), name).to.include.members(methods.split(" "));
    }
  });

  it("changes a source and keeps policies of retention by PATCH, POST, PUT and DELETE", async () => {
    await using served = await startServer(socket());
    const policies = `${BASE}/retention/policies`;
    const patch = await send(socket(), {
      method: "PATCH",
      path: `${BASE}/sources/notes`,
      body: '{"on_delete":"hold","rpo_seconds":null,"paths":["/srv/notes"]}',
    });
    expect([patch.status, patch.json()["name"]]).to.deep.equal([200, "notes"]);
    const made = await send(socket(), { method: "POST", path: policies, body: '{"id":"long","sources":["a"]}' });
    expect([made.status, made.headers.location]).to.deep.equal([201, `${policies}/long`]);
    const put = await send(socket(), { method: "PUT", path: `${policies}/long`, body: '{"sources":["a"],"daily":90}' });
    expect(put.status).to.equal(200);
    expect((await send(socket(), { method: "DELETE", path: `${policies}/long` })).status).to.equal(200);
    expect((await send(socket(), { path: `${policies}/default` })).json()).to.include({ id: "default", daily: 7 });
    expect((await send(socket(), { path: `${policies}/none` })).status).to.equal(404);
    expect(served.services.calls).to.deep.equal([
      'change ["notes",{"on_delete":"hold","rpo_seconds":null,"paths":["/srv/notes"]}]',
      'create policy ["long",{"sources":["a"]}]',
      'replace policy ["long",{"sources":["a"],"daily":90}]',
      'remove policy "long"',
    ]);
  });

  for (const [name, method, path, body] of [
    ["a change of nothing", "PATCH", "/sources/notes", "{}"],
    ["an unknown setting", "PATCH", "/sources/notes", '{"on_delet":"heal"}'],
    ["a target below zero", "PATCH", "/sources/notes", '{"rpo_seconds":-1}'],
    ["a relative path", "PATCH", "/sources/notes", '{"paths":["notes"]}'],
    ["a policy for nothing", "POST", "/retention/policies", '{"id":"a","sources":[]}'],
    ["a policy without a name", "POST", "/retention/policies", '{"sources":["a"]}'],
    ["a policy that keeps no copy", "PUT", "/retention/policies/a", '{"sources":["a"],"min_copies":0}'],
  ] as const) {
    it(`refuses ${name} with 400 and USAGE`, async () => {
      await using served = await startServer(socket());
      const answer = await send(socket(), { method, path: `${BASE}${path}`, body });
      expect([answer.status, answer.json()["code"]], answer.text).to.deep.equal([400, "USAGE"]);
      expect(served.services.calls).to.deep.equal([]);
    });
  }

  it("answers long work with 202 and where to follow it", async () => {
    await using served = await startServer(socket());
    const made = await send(socket(), { method: "POST", path: `${BASE}/backups`, body: "{}" });
    expect(made.status).to.equal(202);
    expect(made.headers.location).to.equal(`${BASE}/jobs/job_1`);
    const job = await send(socket(), { path: made.headers.location ?? "" });
    expect(job.json()).to.include({ id: "job_1", state: "done" });
    expect(served.services.calls[0]).to.contain('"incremental"');
  });

  it("tells errors as problems with the permanent code", async () => {
    await using _served = await startServer(socket());
    const missing = await send(socket(), { path: `${BASE}/backups/nope` });
    expect(missing.status).to.equal(404);
    expect(missing.headers["content-type"]).to.contain("application/problem+json");
    expect(missing.json()).to.include({ code: "BACKUP_NOT_FOUND", status: 404, detail: "no backup nope" });
    expect(missing.json()).to.have.keys("type", "title", "status", "detail", "code", "hint", "details");
  });

  it("tells an unknown path from a wrong method", async () => {
    await using _served = await startServer(socket());
    const unknown = await send(socket(), { path: "/api/v1/backup/nothing" });
    expect([unknown.status, unknown.json()["code"]]).to.deep.equal([404, "NOT_FOUND"]);
    const wrong = await send(socket(), { method: "PUT", path: `${BASE}/backups` });
    expect(wrong.status).to.equal(405);
    expect(wrong.headers.allow).to.equal("GET, POST");
  });

  for (const [name, path, body] of [
    ["unknown fields", "/backups", '{"tipe":"full"}'],
    ["wrong words", "/backups", '{"type":"half"}'],
    ["text where a switch is due", "/backups", '{"compression":"true"}'],
    ["broken JSON", "/backups", '{"type":'],
    ["a list where a mapping is due", "/backups", "[]"],
    ["relative paths", "/recovery/recover", '{"file":"a"}'],
    ["times that are none", "/restore", '{"at":"soon"}'],
    ["a backup and a time at once", "/restore", '{"at":"2026-01-01T00:00:00Z","backup_id":"latest"}'],
    ["NUL in a path", "/recovery/recover", '{"file":"/a\\u0000b"}'],
    ["a pause without end", "/pause", '{"duration_seconds":0}'],
  ] as const) {
    it(`refuses ${name} with 400 and USAGE`, async () => {
      await using served = await startServer(socket());
      const answer = await send(socket(), { method: "POST", path: `${BASE}${path}`, body });
      expect([answer.status, answer.json()["code"]], answer.text).to.deep.equal([400, "USAGE"]);
      expect(served.services.calls).to.deep.equal([]);
    });
  }

  for (const [path, body] of [
    ["/verifications", { sample: 5 }],
    ["/verifications", { level: "blocks", sample: 5 }],
    ["/backups/latest/verify", { level: "checksum", sample: 5 }],
  ] as const) {
    it(`refuses a sample of a verification that looks at all files: POST ${path} ${JSON.stringify(body)}`, async () => {
      await using served = await startServer(socket());
      const refused = await send(socket(), { method: "POST", path: `${BASE}${path}`, body: JSON.stringify(body) });
      expect([refused.status, refused.json()["code"]], refused.text).to.deep.equal([400, "USAGE"]);
      expect(refused.json()["hint"]).to.contain('"level": "restore"');
      expect(served.services.calls).to.deep.equal([]);
      const restored = JSON.stringify({ ...body, level: "restore" });
      expect((await send(socket(), { method: "POST", path: `${BASE}${path}`, body: restored })).status).to.equal(202);
    });
  }

  it("refuses a body beyond 1 MiB with 413", async () => {
    await using _served = await startServer(socket());
    const body = JSON.stringify({ tags: ["x".repeat(1_100_000)] });
    const answer = await send(socket(), { method: "POST", path: `${BASE}/backups`, body });
    expect([answer.status, answer.json()["code"]]).to.deep.equal([413, "LIMIT_REACHED"]);
  });

  it("refuses requests that come from a web page", async () => {
    await using _served = await startServer(socket());
    const rebound = await send(socket(), { path: "/healthz", headers: { host: "evil.example.org" } });
    expect([rebound.status, rebound.json()["code"]]).to.deep.equal([403, "PERMISSION_DENIED"]);
    const foreign = await send(socket(), { path: "/healthz", headers: { origin: "http://localhost" } });
    expect(foreign.status).to.equal(403);
  });

  it("does not take a guessed mark of this process", async () => {
    await using served = await startServer(socket());
    const headers = {
      host: "evil.example.org",
      "x-holdfast-in-process": "0".repeat(served.router.inProcessKey.length),
    };
    expect((await send(socket(), { path: "/healthz", headers })).status).to.equal(403);
  });

  it("pages a list to its end without gaps or repeats", async () => {
    await using _served = await startServer(socket());
    const seen: string[] = [];
    let cursor = "";
    do {
      const query = `limit=100${cursor === "" ? "" : `&cursor=${cursor}`}`;
      const page = (await send(socket(), { path: `${BASE}/backups/latest/files?${query}` })).json() as {
        items: { path: string }[];
        next_cursor: string | null;
      };
      seen.push(...page.items.map((item) => item.path));
      cursor = page.next_cursor ?? "";
    } while (cursor !== "");
    expect(seen).to.have.length(250);
    expect(new Set(seen).size).to.equal(250);
    const bad = await send(socket(), { path: `${BASE}/backups/latest/files?cursor=zzz` });
    expect([bad.status, bad.json()["code"]]).to.deep.equal([400, "USAGE"]);
    expect((await send(socket(), { path: `${BASE}/backups/latest/files?limit=5000` })).status).to.equal(400);
  });

  it("streams 100,000 entries as JSON lines, and a missing backup is still a problem", async () => {
    await using served = await startServer(socket());
    served.services.settings.entryCount = 100_000;
    const client = new ApiClient(socketTransport(socket()));
    let count = 0;
    for await (const _entry of client.lines("/backups/latest/files", never)) count += 1;
    expect(count).to.equal(100_000);
    const error = await client.get("/backups/nope/files", never).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(hasCode(error, "BACKUP_NOT_FOUND")).to.be.true;
  });

  it("does the work of an Idempotency-Key once, also when both come at the same time", async () => {
    await using served = await startServer(socket());
    const post = (key: string, body: string): ReturnType<typeof send> =>
      send(socket(), { method: "POST", path: `${BASE}/backups`, body, headers: { "idempotency-key": key } });
    const [first, second] = await Promise.all([post("k1", "{}"), post("k1", "{}")]);
    const third = await post("k1", "{}");
    expect(second.text).to.equal(first.text);
    expect(third.text).to.equal(first.text);
    expect(served.services.calls).to.have.length(1);
    const other = await post("k1", '{"type":"full"}');
    expect([other.status, other.json()["code"]]).to.deep.equal([400, "USAGE"]);
    await post("k2", "{}");
    expect(served.services.calls).to.have.length(2);
  });

  it("replays events after Last-Event-ID", async () => {
    await using _served = await startServer(socket());
    const client = new ApiClient(socketTransport(socket()));
    const stop = new AbortController();
    const seen: number[] = [];
    for await (const event of client.events(1, stop.signal)) {
      seen.push(event.id);
      if (event.id === 3) break;
    }
    expect(seen).to.deep.equal([2, 3]);
  });

  it("gives the bytes of a file, by a name that is no UTF-8 too", async () => {
    await using served = await startServer(socket());
    const name = Buffer.from("/data/\xff\xfe", "latin1").toString("base64");
    const answer = await send(socket(), { path: `${BASE}/content?id=latest&path_b64=${encodeURIComponent(name)}` });
    expect(answer.text).to.equal("hello world");
    expect(served.services.calls[0]).to.equal(`content ${JSON.stringify(["latest", "/data/\xff\xfe", null])}`);
    const climbing = Buffer.from("/data/../etc/passwd").toString("base64");
    expect((await send(socket(), { path: `${BASE}/content?id=latest&path_b64=${climbing}` })).status).to.equal(400);
  });

  it("answers the same in this process without a socket", async () => {
    await using served = await startServer(socket());
    const client = new ApiClient(inProcessTransport(served.router));
    const job = await client.post<JobDocument>("/backups", { type: "full" }, never);
    expect(job.id).to.equal("job_1");
    let count = 0;
    for await (const _entry of client.lines("/find?pattern=*", never)) count += 1;
    expect(count).to.equal(250);
    const parts: Buffer[] = [];
    for await (const part of await client.bytes("/content?id=latest&path=/data/a", never)) parts.push(part);
    expect(Buffer.concat(parts).toString()).to.equal("hello world");
  });

  it("throws a failed job's own error to who waits for it", async () => {
    await using served = await startServer(socket());
    const error = { code: "STORE_FULL", message: "the store is full", hint: "make room" };
    served.services.jobsById.set("job_9", { ...doneJob("job_9", "backup"), state: "failed", error });
    const client = new ApiClient(socketTransport(socket()));
    const waiting = { ...doneJob("job_9", "backup"), state: "running" as const };
    const thrown = await client.waitForJob(waiting, never).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(hasCode(thrown, "STORE_FULL")).to.be.true;
    expect((thrown as { hint: string }).hint).to.equal("make room");
  });

  it("describes every route in /openapi.json", async () => {
    await using _served = await startServer(socket());
    const document = (await send(socket(), { path: "/openapi.json" })).json() as {
      openapi: string;
      paths: Record<string, Record<string, { "x-role": string }>>;
    };
    expect(document.openapi).to.equal("3.1.0");
    expect(Object.keys(document.paths)).to.include.members(["/metrics", "/api/backup", `${BASE}/backups/{id}/files`]);
    expect(document.paths[`${BASE}/backups/{id}`]?.["delete"]?.["x-role"]).to.equal("admin");
  });

  it("is 503 while failing, for probes, and 200 while alive", async () => {
    await using served = await startServer(socket());
    served.services.system.health = () => Promise.resolve({ exit_code: 1, state: "failing", checks: [] });
    expect((await send(socket(), { path: "/readyz" })).status).to.equal(503);
    expect((await send(socket(), { path: `${BASE}/health` })).status).to.equal(503);
    expect((await send(socket(), { path: "/healthz" })).status).to.equal(200);
  });
});

describe("the life of the socket", () => {
  const folder = useTempFolder("socket");
  const socket = (): string => folder().at("api.sock");

  it("has exactly the configured permissions", async () => {
    await using _served = await startServer(socket(), { mode: 0o660 });
    expect((await lstat(socket())).mode & 0o777).to.equal(0o660);
  });

  it("replaces a stale socket that nobody answers on", async () => {
    const child = promisify(execFile);
    const script =
      "const s=require('net').createServer().listen(process.argv[1],()=>process.kill(process.pid,'SIGKILL'))";
    await child(process.execPath, ["-e", script, socket()]).catch(() => undefined);
    expect((await lstat(socket())).isSocket()).to.be.true;
    await using _served = await startServer(socket());
    expect((await send(socket(), { path: "/healthz" })).status).to.equal(200);
  });

  it("refuses to replace a socket that somebody answers on", async () => {
    await using _served = await startServer(socket());
    const thrown = await startServer(socket()).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(hasCode(thrown, "DAEMON_RUNNING")).to.be.true;
    expect((await send(socket(), { path: "/healthz" })).status).to.equal(200);
  });

  it("never removes a file that is no socket", async () => {
    await writeFile(socket(), "precious");
    const thrown = await startServer(socket()).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    expect(hasCode(thrown, "TARGET_EXISTS")).to.be.true;
    expect((await lstat(socket())).isFile()).to.be.true;
  });

  it("lets a running request end before it closes, and ends event streams", async () => {
    const served = await startServer(socket());
    let open = (): void => undefined;
    served.services.settings.gate = new Promise<void>((resolve) => (open = resolve));
    const slow = send(socket(), { path: `${BASE}/status` });
    const stream = request({ socketPath: socket(), path: `${BASE}/events`, headers: { host: "localhost" } });
    stream.on("error", () => undefined);
    stream.end();
    await new Promise((resolve) => stream.once("response", (answer) => resolve(answer.resume())));
    const closed = served[Symbol.asyncDispose]();
    open();
    expect((await slow).status).to.equal(200);
    await closed; // though nobody has closed the stream
    const gone = await send(socket(), { path: "/healthz" }).then(
      () => false,
      () => true,
    );
    expect(gone).to.be.true;
  });

  it("is not held up by a client that sends half a request", async () => {
    await using _served = await startServer(socket());
    const slow = connect(socket());
    slow.on("error", () => undefined);
    slow.write("POST /api/v1/backup/backups HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{");
    expect((await send(socket(), { path: "/healthz" })).status).to.equal(200);
    slow.destroy();
  });

  it("serves a socket that the service manager has opened", async () => {
    const manager = createServer();
    await new Promise<void>((resolve) => manager.listen(socket(), resolve));
    const { fd } = (manager as unknown as { _handle: { fd: number } })._handle;
    const program = fileURLToPath(new URL("activated-child.js", import.meta.url));
    const child = spawn(process.execPath, [program, socket()], { stdio: ["pipe", "pipe", "inherit", fd] });
    try {
      await once(child.stdio[1] as Readable, "data");
      // The manager lets go; closing removes its name of the socket, so clients come by another one.
      await link(socket(), folder().at("kept.sock"));
      await new Promise((resolve) => manager.close(resolve));
      expect((await send(folder().at("kept.sock"), { path: "/healthz" })).status).to.equal(200);
    } finally {
      (child.stdio[0] as Writable).end();
      const [exitCode] = (await once(child, "exit")) as [number];
      expect(exitCode).to.equal(0);
    }
  });

  it("knows who may do what before it takes its first connection", async () => {
    const router = await createRouter({
      services: fakeServices(),
      observer: silentObserver,
      clock: systemClock,
      version: "0.1.0",
    });
    const tookAlready: boolean[] = [];
    const judgeBy = (judge: Judge): void => {
      tookAlready.push(router.http.server.listening);
      router.judgeBy(judge);
    };
    const access = { group: undefined, others: "refuse" } as const;
    await using _server = await ApiServer.start({ ...router, judgeBy }, { socketPath: socket(), mode: 0o600, access });
    expect(tookAlready).to.deep.equal([false]);
  });

  it("tells of requests that are refused before their route is asked", async () => {
    const told: WriteNote[] = [];
    await using served = await startServer(socket(), {}, (write) => told.push(write));
    const path = "/api/v1/backup/backups";
    const answers = [
      await send(socket(), { method: "POST", path, headers: { host: "evil.example" } }),
      await send(socket(), { method: "POST", path, body: '{"label": 7, "unknown": true}' }),
      await send(socket(), { method: "POST", path, body: "no JSON" }),
    ];
    served.router.judgeBy(() => undefined);
    answers.push(await send(socket(), { method: "DELETE", path: `${path}/latest` }));
    expect(answers.map(({ status }) => status)).to.deep.equal([403, 400, 400, 403]);
    expect(told.map(({ method, caller, outcome }) => [method, caller.split(" ")[0], outcome])).to.deep.equal([
      ["POST", "unknown", "PERMISSION_DENIED"],
      ["POST", "uid", "USAGE"],
      ["POST", "uid", "USAGE"],
      ["DELETE", "unknown", "PERMISSION_DENIED"],
    ]);
    expect(told.every(({ body }) => body === undefined)).to.equal(true);
    expect(served.services.calls).to.deep.equal([]);
  });

  it("serves metrics on a loopback port only to the bearer of the token", async () => {
    const metrics = { listen: "127.0.0.1:0", token: new Secret("scrape-me") };
    await using served = await startServer(socket(), { metrics });
    const url = `http://127.0.0.1:${String(served.server.metricsPort)}`;
    const bearer = { headers: { authorization: "Bearer scrape-me" } };
    const good = await fetch(`${url}/metrics`, bearer);
    expect(await good.text()).to.contain("holdfast_up 1");
    expect(good.headers.get("content-type")).to.contain("text/plain; version=0.0.4");
    expect((await fetch(`${url}/metrics`)).status).to.equal(401);
    expect((await fetch(`${url}/metrics`, { headers: { authorization: "Bearer wrong-one" } })).status).to.equal(401);
    expect((await fetch(`${url}/api/v1/backup/status`, bearer)).status).to.equal(404);
    expect((await fetch(`${url}/metrics`, { ...bearer, method: "POST" })).status).to.equal(404);
  });
});
