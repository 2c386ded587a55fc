/** The systemd units and drop-ins, judged by systemd's own tools. */
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { promisify } from "node:util";
import { expect } from "chai";
import { projectPath } from "../support/project.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const run = promisify(execFile);
const UNITS = ["holdfast.service", "holdfast.socket", "holdfast-user.service"];
/** Tenths of an exposure point; what `systemd-analyze security --threshold` takes. */
const EXPOSURE_TENTHS_MAX = 31;
/** All that putting files back needs, and nothing else. */
const CAPABILITIES = [
  "CAP_DAC_READ_SEARCH",
  "CAP_DAC_OVERRIDE",
  "CAP_CHOWN",
  "CAP_FOWNER",
  "CAP_FSETID",
  "CAP_SETFCAP",
  "CAP_SYS_PTRACE",
];

/** The values of a setting, in order, from all of its lines. */
async function setting(unit: string, name: string): Promise<string[]> {
  const text = await readFile(projectPath("systemd", unit), "utf8");
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${name}=`))
    .map((line) => line.slice(name.length + 1));
}

describe("the systemd units", () => {
  const folder = useTempFolder("units");

  /** Copies a unit with a program that exists in place of ours; gives its path. */
  async function runnable(unit: string): Promise<string> {
    const text = await readFile(projectPath("systemd", unit), "utf8");
    return await folder().write(unit, text.replaceAll("/usr/bin/holdfast", "/bin/true"));
  }

  it("are understood by systemd without a complaint", async function () {
    requirePrograms(this, "systemd-analyze");
    const system = await Promise.all([runnable("holdfast.service"), runnable("holdfast.socket")]);
    const user = await runnable("holdfast-user.service");
    const env = { ...process.env, XDG_RUNTIME_DIR: folder().path };
    const systemVerdict = await run("systemd-analyze", ["verify", "--man=no", ...system]);
    const userVerdict = await run("systemd-analyze", ["verify", "--man=no", "--user", user], { env });
    expect(systemVerdict.stderr).to.equal("");
    expect(userVerdict.stderr).to.equal("");
  });

  it("expose no more than 3.1 of 10 points while being able to put everything back", async function () {
    requirePrograms(this, "systemd-analyze");
    const unit = projectPath("systemd", "holdfast.service");
    const threshold = `--threshold=${String(EXPOSURE_TENTHS_MAX)}`;
    const { stdout } = await run("systemd-analyze", ["security", "--offline=true", "--no-pager", threshold, unit]);
    expect(stdout).to.match(/Overall exposure level for holdfast\.service: [0-3]\.\d OK/);
  });

  it("grant exactly the capabilities that healing needs", async () => {
    for (const name of ["CapabilityBoundingSet", "AmbientCapabilities"]) {
      expect((await setting("holdfast.service", name)).join(" ").split(" ")).to.have.members(CAPABILITIES);
    }
  });

  it("keep what healing needs free of the sandbox", async () => {
    expect(await setting("holdfast.service", "ProtectSystem")).to.deep.equal(["yes"]);
    for (const name of ["MemoryDenyWriteExecute", "RestrictSUIDSGID", "PrivateTmp", "ProtectHome", "ReadWritePaths"]) {
      expect(await setting("holdfast.service", name), name).to.deep.equal([]);
    }
    expect(await setting("holdfast.service", "Environment")).to.include("HOLDFAST_AMBIENT_CAPS=1");
  });

  it("hand the same control socket to the daemon, for root and the group only", async () => {
    expect(await setting("holdfast.socket", "ListenStream")).to.deep.equal(["/run/holdfast/api.sock"]);
    expect(await setting("holdfast.service", "Environment")).to.include("HOLDFAST_SOCKET=/run/holdfast/api.sock");
    expect(await setting("holdfast.socket", "SocketMode")).to.deep.equal(["0660"]);
    expect(await setting("holdfast.socket", "SocketGroup")).to.deep.equal(["holdfast"]);
    expect(await setting("holdfast.service", "RuntimeDirectoryPreserve")).to.deep.equal(["yes"]);
  });

  it("speak of every unit that is shipped", async () => {
    expect(await readdir(projectPath("systemd"))).to.have.members(UNITS);
  });
});

describe("the drop-ins", () => {
  const folder = useTempFolder("drop-ins");
  const dropIn = (kind: string, name: string): string => projectPath("packaging", kind, name);

  it("make the service's user and group", async function () {
    requirePrograms(this, "systemd-sysusers");
    await folder().folder("etc");
    // With --root a file is looked up below that root, so the text goes in by standard input.
    const child = run("systemd-sysusers", [`--root=${folder().path}`, "-"]);
    child.child.stdin?.end(await readFile(dropIn("sysusers.d", "holdfast.conf")));
    await child;
    expect(await readFile(folder().at("etc", "passwd"), "utf8")).to.match(
      /^holdfast:.*:\/var\/lib\/holdfast:\/usr\/sbin\/nologin$/m,
    );
    expect(await readFile(folder().at("etc", "group"), "utf8")).to.match(/^holdfast:/m);
  });

  it("make the folders with safe modes, and clean nothing away", async () => {
    const lines = (await readFile(dropIn("tmpfiles.d", "holdfast.conf"), "utf8"))
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    expect(lines).to.have.lengthOf(3);
    for (const line of lines) expect(line).to.match(/^d \/\S+ 07[05][05] (?:root|holdfast) holdfast -$/);
  });

  it("raise only limits that this kernel knows", async function () {
    requirePrograms(this, "sysctl");
    const names = [
      ...(await readFile(dropIn("sysctl.d", "60-holdfast.conf"), "utf8")).matchAll(/^([a-z_.]+) = \d+$/gm),
    ];
    expect(names).to.have.lengthOf(3);
    for (const [, name] of names) await run("sysctl", ["-n", name ?? ""]);
  });
});
