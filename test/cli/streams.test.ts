/** What happens when nobody takes what the command line writes: a full disk, a reader that has gone. */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { commandWord } from "../../src/cli/program.js";
import { Sandbox, until } from "../support/program.js";

/** Runs a command whose stdout takes nothing, as on a full disk. */
async function runOnFullDisk(sandbox: Sandbox, ...args: string[]): Promise<{ exitCode: number; stderr: string }> {
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, sandbox.commandLine(...args), {
    env: sandbox.environment,
    stdio: ["ignore", full, "pipe"],
  });
  closeSync(full);
  let stderr = "";
  child.stderr?.on("data", (part: Buffer) => (stderr += part.toString("utf8")));
  const exitCode = await new Promise<number>((resolve) => {
    child.on("close", (code) => resolve(code ?? 128));
  });
  return { exitCode, stderr };
}

describe("output that nobody takes", () => {
  it("is a failure when it was what the command was for", async () => {
    await using sandbox = await Sandbox.create();
    await writeFile(join(sandbox.data, "file"), "content");
    await sandbox.run("init");
    await sandbox.run("create");
    for (const command of [
      ["list", "--json"],
      ["config", "schema"],
      ["cat", "latest", join(sandbox.data, "file")],
    ]) {
      const { exitCode, stderr } = await runOnFullDisk(sandbox, ...command);
      expect(exitCode, command.join(" ")).to.equal(1);
      expect(stderr).to.contain("cannot write");
    }
  });

  it("does not end the daemon when the disk of its log is full", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "file");
    await writeFile(file, "content");
    const full = openSync("/dev/full", "w");
    const daemon = spawn(process.execPath, sandbox.commandLine("daemon", "--json"), {
      env: sandbox.environment,
      stdio: ["ignore", full, full],
    });
    closeSync(full);
    const ended = new Promise<number>((resolve) => daemon.on("exit", (code) => resolve(code ?? 128)));
    try {
      await until("it protects", 20_000, async () => await sandbox.isProtecting());
      await rm(file);
      await until("the file is back", 10_000, async () => (await textOf(file)) === "content");
    } finally {
      daemon.kill("SIGTERM");
    }
    expect(await ended).to.equal(0);
  });

  it("does not end the protection in the foreground when its reader goes", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "\u001b]0;title\u0007file");
    await writeFile(file, "content");
    const others = [join(sandbox.data, "one"), join(sandbox.data, "two")];
    for (const other of others) await writeFile(other, "other");
    const line = sandbox.commandLine("protect", "--foreground", sandbox.data);
    const protector = spawn(process.execPath, line, {
      env: sandbox.environment,
      stdio: ["ignore", "pipe", "ignore"],
    });
    const ended = new Promise<number>((resolve) => protector.on("exit", (code) => resolve(code ?? 128)));
    let said = "";
    protector.stdout.on("data", (part: Buffer) => (said += part.toString("utf8")));
    try {
      await until("it is ready", 20_000, () => said.includes("ready "));
      await rm(file);
      await until("it says that the file is back", 10_000, () => said.includes("healed "));
      expect(said, "no name may steer the terminal").to.contain("\\x1b]0;title\\x07file").and.not.contain("\u001b");
      protector.stdout.destroy();
      for (const other of others) {
        await rm(other);
        await until("it is back", 10_000, async () => (await textOf(other)) === "other");
      }
    } finally {
      protector.kill("SIGTERM");
    }
    expect(await ended).to.equal(0);
  });
});

describe("the command that was asked for", () => {
  it("is found behind global options and their values", () => {
    expect(commandWord(["--socket", "/run/protect", "--json", "status"])).to.equal("status");
    expect(commandWord(["--config=/etc/daemon", "daemon"])).to.equal("daemon");
    expect(commandWord(["restore", "--files", "daemon"])).to.equal("restore");
    expect(commandWord(["--format", "json", "--store", "daemon", "list"])).to.equal("list");
    expect(commandWord(["--version"])).to.equal("");
  });
});

async function textOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch {
    return undefined;
  }
}
