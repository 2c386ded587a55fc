/** Starting programs: a clean environment, limits that hold for children and grandchildren, and honest results. */
import { readFile, readdir, readlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { Level } from "level";
import { mountCalls, nativeCalls } from "../../src/base/native.js";
import { type SpawnOptions, runProgram } from "../../src/base/spawn.js";
import { rejection } from "../support/rejection.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const LIMITS: SpawnOptions = { timeoutMs: 20_000, signal: new AbortController().signal };
const shell = (script: string): string[] => ["/bin/sh", "-c", script];

describe("a started program", () => {
  const folder = useTempFolder("spawn");

  it("gets its input and gives its output, errors and exit code", async () => {
    const result = await runProgram(shell("cat; echo trouble >&2; exit 7"), { ...LIMITS, stdin: "in\0put" });
    expect(result.stdout.toString()).to.equal("in\0put");
    expect([result.stderr, result.exitCode]).to.deep.equal(["trouble\n", 7]);
  });

  it("sees a clean environment and what it was given, and none of our secrets", async () => {
    process.env["HOLDFAST_PASSWORD"] = "correct horse";
    try {
      const { stdout } = await runProgram(["/usr/bin/env"], { ...LIMITS, env: { GIT_DIR: "/x" } });
      const names = stdout
        .toString()
        .trim()
        .split("\n")
        .map((line) => line.split("=")[0]);
      expect(names).to.have.members(["PATH", "HOME", "LANG", "GIT_DIR"]);
    } finally {
      delete process.env["HOLDFAST_PASSWORD"];
    }
  });

  it("gets none of our descriptors: not a database's, which LevelDB leaves open to every child", async function () {
    requirePrograms(this, "ls");
    if (nativeCalls() === undefined) skip(this, "koffi is not installed");
    const database = new Level<string, string>(folder().at("database"));
    await database.open();
    await using _closing = { [Symbol.asyncDispose]: async () => await database.close() };
    await database.put("key", "value");
    const { stdout } = await runProgram(["ls", "-l", "/proc/self/fd"], LIMITS);
    expect(await openOf("self"), "we have it open").to.include(`${folder().at("database")}/LOCK`);
    expect(stdout.toString()).to.not.contain(folder().path);
  });

  it("gets a descriptor that it is meant to have", async function () {
    if (nativeCalls() === undefined) skip(this, "koffi is not installed");
    const calls = mountCalls();
    if (calls === undefined) skip(this, "koffi is not installed");
    const [ours, theirs] = calls.socketPair();
    try {
      const { stdout } = await runProgram(["ls", "/proc/self/fd"], { ...LIMITS, inherits: [theirs] });
      const descriptors = stdout.toString().trim().split("\n").map(Number);
      expect(descriptors).to.include(theirs);
      expect(descriptors).to.not.include(ours);
    } finally {
      calls.closeDescriptor(ours);
      calls.closeDescriptor(theirs);
    }
  });

  it("gets its arguments as they are, without a shell", async () => {
    const { stdout } = await runProgram(["/usr/bin/printf", "%s|", "$HOME", "a b", "; rm -rf x", "*"], LIMITS);
    expect(stdout.toString()).to.equal("$HOME|a b|; rm -rf x|*|");
  });

  it("may end before it has read its input", async () => {
    const { exitCode } = await runProgram(["/bin/true"], { ...LIMITS, stdin: Buffer.alloc(4 * 2 ** 20) });
    expect(exitCode).to.equal(0);
  });

  it("that is not installed is a clear error", async () => {
    const error = await rejection(runProgram(["holdfast-no-such-program"], LIMITS));
    expect(error).to.include({ code: "SPAWN_FAILED", message: "holdfast-no-such-program is not installed" });
    expect(await rejection(runProgram([], LIMITS))).to.have.property("code", "SPAWN_FAILED");
  });

  it("is ended with its children when it runs too long", async () => {
    const pidFile = folder().at("pid");
    const script = `sleep 300 & echo $! > ${pidFile}; wait`;
    const error = await rejection(runProgram(shell(script), { ...LIMITS, timeoutMs: 500 }));
    expect(error).to.have.property("code", "TIMEOUT");
    expect(await isRunning(Number(await readFile(pidFile, "utf8")))).to.equal(false);
  });

  it("cannot outstay its limit by a grandchild that left its group and holds the output open", async function () {
    requirePrograms(this, "setsid");
    const pidFile = folder().at("pid");
    const script = `setsid sh -c 'echo $$ > ${pidFile}; exec sleep 30' & while ! [ -s ${pidFile} ]; do sleep 0.01; done`;
    const startedMs = performance.now();
    const error = await rejection(runProgram(shell(script), { ...LIMITS, timeoutMs: 1000 }));
    process.kill(Number(await readFile(pidFile, "utf8")), "SIGKILL");
    expect(error).to.have.property("code", "TIMEOUT");
    expect(performance.now() - startedMs).to.be.below(10_000);
  });

  it("is ended when its caller is interrupted, and not started when that was before", async () => {
    const stop = new AbortController();
    const running = rejection(runProgram(shell("sleep 300"), { ...LIMITS, signal: stop.signal }));
    stop.abort();
    expect(await running).to.have.property("code", "INTERRUPTED");
    expect(await rejection(runProgram(["/bin/true"], { ...LIMITS, signal: stop.signal }))).to.have.property(
      "name",
      "AbortError",
    );
  });

  it("that prints without end is ended at the limit", async () => {
    const error = await rejection(runProgram(shell("yes"), { ...LIMITS, outputBytesMax: 100_000 }));
    expect(error).to.have.property("code", "LIMIT_REACHED");
  });

  it("that complains without end keeps the last of it", async () => {
    const { stderr } = await runProgram(shell("yes complaint | head -c 1000000 >&2; echo the end >&2"), LIMITS);
    expect(stderr).to.have.lengthOf(64 * 1024);
    expect(stderr.endsWith("the end\n")).to.equal(true);
  });

  it("killed by a signal is no success", async () => {
    const { exitCode } = await runProgram(shell("kill -9 $$"), LIMITS);
    expect(exitCode).not.to.equal(0);
  });

  it("runs in the folder and as the user that are asked for", async function () {
    requireRoot(this);
    const { stdout } = await runProgram(shell("id -u; id -g; pwd"), {
      ...LIMITS,
      cwd: "/",
      user: { uid: 65534, gid: 65534 },
    });
    expect(stdout.toString()).to.equal("65534\n65534\n/\n");
  });

  it("does not inherit the capabilities of a daemon that holds some", async function () {
    requireRoot(this);
    requirePrograms(this, "setpriv", "runuser");
    const secretPath = folder().at("secret");
    await writeFile(secretPath, "owned by root", { mode: 0o600 });
    const caps = "+dac_read_search";
    const drop = [
      "setpriv",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      `--inh-caps=${caps}`,
      `--ambient-caps=${caps}`,
    ];
    const program = new URL("../../src/base/spawn.js", import.meta.url).href;
    const script = `
      import { readFileSync } from "node:fs";
      import { runProgram } from ${JSON.stringify(program)};
      const path = ${JSON.stringify(secretPath)};
      const { exitCode } = await runProgram(["/bin/cat", path], { timeoutMs: 20000, signal: new AbortController().signal });
      console.log(JSON.stringify({ daemon: readFileSync(path, "utf8"), childReads: exitCode === 0 }));`;
    const command = [...drop, "env", "HOLDFAST_AMBIENT_CAPS=1", process.execPath, "--input-type=module", "-e", script];
    const { stdout, stderr } = await runProgram(command, LIMITS);
    expect(stderr).to.equal("");
    expect(JSON.parse(stdout.toString())).to.deep.equal({ daemon: "owned by root", childReads: false });
  });
});

/** False when the process is gone or only waits to be reaped. */
async function isRunning(pid: number): Promise<boolean> {
  try {
    return !/^State:\s+Z/m.test(await readFile(`/proc/${String(pid)}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** What a process has open. */
async function openOf(pid: string): Promise<readonly string[]> {
  const folder = `/proc/${pid}/fd`;
  const names = await readdir(folder);
  return await Promise.all(names.map(async (name) => await readlink(`${folder}/${name}`).catch(() => "")));
}
