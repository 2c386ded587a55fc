/** Ordinary work under a running daemon: nothing that was meant to go comes back, and nobody is alarmed. */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { Sandbox, until, versionsOf } from "../support/program.js";

/** Long enough for grace (500 ms), rest and a heal: what was going to be resurrected would be back by then. */
const QUIET_MS = 2_500;

describe("ordinary work is no loss", () => {
  it("a git checkout of another branch resurrects nothing", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, { on_delete: "heal" });
    git(sandbox.data, "init", "-q", "-b", "main");
    await writeFile(join(sandbox.data, "common.txt"), "common");
    git(sandbox.data, "add", ".");
    git(sandbox.data, "commit", "-qm", "base");
    git(sandbox.data, "checkout", "-qb", "feature");
    for (let index = 0; index < 8; index += 1)
      await writeFile(join(sandbox.data, `feature-${String(index)}.txt`), "only here");
    git(sandbox.data, "add", ".");
    git(sandbox.data, "commit", "-qm", "feature");
    await sandbox.start();
    git(sandbox.data, "checkout", "-q", "main");
    await nothingComesBack(sandbox, async () => (await readdir(sandbox.data)).sort().join() === ".git,common.txt");
  });

  it("npm ci replaces node_modules without an incident", async () => {
    await using sandbox = await Sandbox.create();
    const dependency = join(sandbox.home, "dependency");
    await mkdir(dependency);
    await writeFile(join(dependency, "package.json"), JSON.stringify({ name: "dependency", version: "1.0.0" }));
    for (let index = 0; index < 20; index += 1)
      await writeFile(join(dependency, `file${String(index)}.js`), `${String(index)};`);
    execFileSync("npm", ["pack", "--silent", "--pack-destination", sandbox.home], { cwd: dependency });
    await writeFile(
      join(sandbox.data, "package.json"),
      JSON.stringify({ name: "app", version: "1.0.0", dependencies: { dependency: "file:../dependency-1.0.0.tgz" } }),
    );
    const npm = (...args: string[]): void =>
      void execFileSync("npm", [...args, "--offline", "--silent", "--no-audit", "--no-fund"], { cwd: sandbox.data });
    npm("install");
    await sandbox.configure({ defaults: { exclude: [] } });
    await sandbox.start();
    npm("ci");
    await nothingComesBack(sandbox, () => existsSync(join(sandbox.data, "node_modules/dependency/file0.js")));
  });

  it("an atomic save makes a version, not a loss", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "report.txt");
    await writeFile(file, "draft");
    await sandbox.start();
    await writeFile(`${file}.tmp`, "final");
    await rename(`${file}.tmp`, file);
    await sandbox.settled(file, 2);
    await nothingComesBack(
      sandbox,
      async () => (await readFile(file, "utf8")) === "final" && !existsSync(`${file}.tmp`),
    );
  });

  it("a moved file stays where it was moved to", async () => {
    await using sandbox = await Sandbox.create();
    const [from, to] = [join(sandbox.data, "before.txt"), join(sandbox.data, "after.txt")];
    await writeFile(from, "moving house");
    await sandbox.start();
    await rename(from, to);
    await sandbox.settled(to);
    await nothingComesBack(sandbox, () => !existsSync(from) && existsSync(to));
    await until(
      "the removal is recorded",
      5_000,
      async () => versionsOf(await sandbox.run("versions", from, "--json"))[0]?.change === "removed",
    );
  });

  it("a log rotation, with compression and the oldest one dropped, resurrects nothing", async () => {
    await using sandbox = await Sandbox.create();
    const log = join(sandbox.data, "app.log");
    await writeFile(log, "line\n".repeat(500));
    await writeFile(`${log}.1`, "older\n".repeat(500));
    await sandbox.start();
    execFileSync("gzip", [`${log}.1`]);
    await rename(`${log}.1.gz`, `${log}.2.gz`);
    await rename(log, `${log}.1`);
    await writeFile(log, "");
    await nothingComesBack(sandbox, async () => {
      return (
        (await readdir(sandbox.data)).sort().join() === "app.log,app.log.1,app.log.2.gz" &&
        (await readFile(log, "utf8")) === ""
      );
    });
  });

  it("a paused folder may be emptied", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "old.txt");
    await writeFile(file, "old");
    await sandbox.start();
    const paused = await sandbox.run("pause", sandbox.data, "--for", "10m", "--reason", "cleaning");
    expect(paused.exitCode, paused.stderr).to.equal(0);
    await rm(file);
    await nothingComesBack(sandbox, () => !existsSync(file));
  });
});

async function nothingComesBack(sandbox: Sandbox, asLeft: () => boolean | Promise<boolean>): Promise<void> {
  await delay(QUIET_MS);
  expect(await asLeft(), "the folder is as the work left it").to.equal(true);
  expect(await sandbox.incidents()).to.deep.equal([]);
}

function git(folder: string, ...args: string[]): void {
  const identity = {
    GIT_AUTHOR_NAME: "t",
    GIT_AUTHOR_EMAIL: "t@t",
    GIT_COMMITTER_NAME: "t",
    GIT_COMMITTER_EMAIL: "t@t",
  };
  execFileSync("git", args, { cwd: folder, env: { ...process.env, ...identity, GIT_CONFIG_GLOBAL: "/dev/null" } });
}
