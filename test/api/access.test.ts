/** Who may do what, judged by what the kernel says of the real process at the other end. */
import { expect } from "chai";
import { execFile, execFileSync } from "node:child_process";
import { chmod } from "node:fs/promises";
import { promisify } from "node:util";
import { judgePeer, unixJudge } from "../../src/api/access.js";
import { findGroup } from "../../src/base/accounts.js";
import { nativeCalls } from "../../src/base/native.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";
import { startServer } from "./api-server.js";

const BASE = "http://localhost/api/v1/backup";
const NOBODY = 65_534;

describe("the rule of roles", () => {
  const access = { group: "holdfast", others: "refuse" } as const;
  const peer = (uid: number): { pid: number; uid: number; gid: number } => ({ pid: 1, uid, gid: uid });

  for (const [who, uid, isMember, others, role] of [
    ["root", 0, false, "refuse", "admin"],
    ["the daemon's own user", process.getuid?.() ?? 0, false, "refuse", "admin"],
    ["a member of the group", 4242, true, "refuse", "backup_operator"],
    ["a stranger, when strangers may look", 4242, false, "viewer", "viewer"],
    ["a stranger", 4242, false, "refuse", undefined],
  ] as const) {
    it(`makes ${who} ${role ?? "nobody"}`, () => {
      expect(judgePeer({ ...access, others }, peer(uid), () => isMember)?.role).to.equal(role);
    });
  }

  it("goes by the socket's permissions where the kernel cannot be asked, and never gives a group admin", () => {
    const judge = (mode: number, group: string | undefined): string | undefined =>
      unixJudge({ group, others: "refuse" }, { mode }, undefined)({} as never)?.role;
    expect(judge(0o600, undefined)).to.equal("admin");
    expect(judge(0o660, "holdfast")).to.equal("backup_operator");
    expect(judge(0o660, undefined)).to.equal(undefined);
    expect(judge(0o666, "holdfast")).to.equal(undefined);
  });

  it("finds groups by name and number", () => {
    expect(findGroup("root")?.gid).to.equal(0);
    expect(findGroup("0")?.gid).to.equal(0);
    expect(findGroup("no-such-group")).to.equal(undefined);
  });
});

describe("a real caller of another user", () => {
  const folder = useTempFolder("access");

  async function asNobody(socket: string, url: string, groups: readonly number[], ...more: string[]): Promise<number> {
    const user = [`--reuid=${String(NOBODY)}`, `--regid=${String(groups[0] ?? NOBODY)}`, "--clear-groups"];
    const args = [...user, "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", ...more];
    const { stdout } = await promisify(execFile)("setpriv", [...args, "--unix-socket", socket, url]).catch(
      (error: unknown) => error as { stdout: string },
    );
    return Number(stdout);
  }

  function requireAll(context: Mocha.Context): void {
    requireRoot(context);
    requirePrograms(context, "curl", "setpriv");
    if (nativeCalls() === undefined) skip(context, "koffi does not load here");
  }

  it("is refused everything when strangers are", async function () {
    requireAll(this);
    await chmod(folder().path, 0o755);
    await using served = await startServer(folder().at("s"), { mode: 0o666 });
    expect(await asNobody(served.socketPath, `${BASE}/status`, [])).to.equal(403);
    expect(await asNobody(served.socketPath, "http://localhost/openapi.json", [])).to.equal(403);
    expect(served.services.calls).to.deep.equal([]);
  });

  it("may look and no more when strangers are viewers", async function () {
    requireAll(this);
    await chmod(folder().path, 0o755);
    const access = { group: undefined, others: "viewer" } as const;
    await using served = await startServer(folder().at("s"), { mode: 0o666, access });
    expect(await asNobody(served.socketPath, `${BASE}/status`, [])).to.equal(200);
    expect(await asNobody(served.socketPath, `${BASE}/content?id=latest&path=/etc/shadow`, [])).to.equal(403);
    expect(await asNobody(served.socketPath, `${BASE}/backups`, [], "-X", "POST")).to.equal(403);
    expect(await asNobody(served.socketPath, `${BASE}/config`, [])).to.equal(403);
    expect(served.services.calls).to.deep.equal([]);
  });

  it("operates backups as a member of the group, and administers nothing", async function () {
    requireAll(this);
    const group =
      execFileSync("getent", ["group", String(NOBODY)])
        .toString()
        .split(":")[0] ?? "";
    await chmod(folder().path, 0o755);
    const access = { group, others: "refuse" } as const;
    await using served = await startServer(folder().at("s"), { mode: 0o660, access });
    expect(await asNobody(served.socketPath, `${BASE}/backups`, [NOBODY], "-X", "POST")).to.equal(202);
    expect(await asNobody(served.socketPath, `${BASE}/backups/latest`, [NOBODY], "-X", "DELETE")).to.equal(403);
    expect(await asNobody(served.socketPath, `${BASE}/keys/recovery`, [NOBODY], "-X", "POST")).to.equal(403);
    expect(await asNobody(served.socketPath, `${BASE}/config/reload`, [NOBODY], "-X", "POST")).to.equal(403);
    expect(await asNobody(served.socketPath, `${BASE}/status`, [12_345])).to.equal(0); // the socket does not open
    expect(served.services.calls).to.have.length(1);
  });

  it("puts back what was protected as a member of the group, but nowhere else: the daemon would write with its rights", async function () {
    requireAll(this);
    const group =
      execFileSync("getent", ["group", String(NOBODY)])
        .toString()
        .split(":")[0] ?? "";
    await chmod(folder().path, 0o755);
    const access = { group, others: "refuse" } as const;
    await using served = await startServer(folder().at("s"), { mode: 0o660, access });
    const post = async (route: string, body: object): Promise<number> => {
      const json = ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
      return await asNobody(served.socketPath, `${BASE}/${route}`, [NOBODY], ...json);
    };
    const file = "/home/me/script";
    expect(await post("restore", { files: [file] })).to.equal(202);
    expect(await post("recovery/recover", { file })).to.equal(202);
    expect(await post("restore", { target: "/etc", dry_run: true })).to.equal(202);
    expect(await post("recovery/recover", { file, to: "/etc/cron.d/x", explain: true })).to.equal(202);
    const allowed = served.services.calls.length;
    expect(await post("restore", { files: [file], target: "/etc/cron.d" })).to.equal(403);
    expect(await post("restore", { files: [file], target_path: "/" })).to.equal(403);
    expect(await post("recovery/recover", { file, to: "/etc/cron.d/x" })).to.equal(403);
    expect(served.services.calls).to.have.length(allowed);
  });
});
