/** What must be kept or left alone although it looks otherwise: away is not gone, undecided is not forgotten. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { DaemonProcess, Sandbox, until, versionsOf } from "../support/program.js";
import { requireRoot, skip } from "../support/requirements.js";

/** So many old commits are thinned at once. */
const COMMITS_THINNED = 10;
/** Some seconds of work. */
const FIRST_BACKUP_BYTES = 300 * 2 ** 20;

describe("what may still be needed", () => {
  it("is not noted as gone by a backup while its file system is not mounted", async function () {
    requireRoot(this);
    await using sandbox = await Sandbox.create();
    const disk = join(sandbox.home, "disk");
    await mkdir(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      skip(this, "mounting is not permitted here");
    }
    const file = join(disk, "file");
    try {
      await sandbox.configure({}, { paths: [disk] });
      await writeFile(file, "on the disk");
      await sandbox.start();
      await sandbox.settled(file);
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
    await until("the status says that the root is gone", 10_000, async () => {
      const { sources } = await sandbox.json<{ sources: { state: string }[] }>("status");
      return sources[0]?.state === "root_gone";
    });
    const backup = await sandbox.run("backup");
    expect(backup.stderr).to.contain("SOURCE_ROOT_GONE");
    const versions = versionsOf(await sandbox.run("versions", file, "--json"));
    expect(versions.map(({ change }) => change)).to.deep.equal(["stored"]);
  });

  it("is the repository itself, while its disk is away: no other is begun in its place, also by a daemon that runs", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "file");
    await writeFile(file, "stored");
    const daemon = await sandbox.start();
    await sandbox.settled(file);
    await rename(sandbox.store, `${sandbox.store}.away`);
    await writeFile(file, "stored, and changed since");
    await until("the daemon ends, since it has no repository", 20_000, () =>
      Promise.resolve(daemon.exitCode !== undefined),
    );
    expect(existsSync(join(sandbox.store, "config"))).to.equal(false);
    const refused = await sandbox.run("daemon");
    expect(refused.stderr).to.include("that stood at").and.to.include("holdfast init");
    expect(existsSync(join(sandbox.store, "config"))).to.equal(false);
    await rm(sandbox.store, { recursive: true, force: true }); // what the daemon wrote before it noticed
    await rename(`${sandbox.store}.away`, sandbox.store);
    await sandbox.start();
    await until("the change is stored", 10_000, async () => {
      return versionsOf(await sandbox.run("versions", file, "--json")).length === 2;
    });
  });

  it("is not noted as gone by a command that works alone where a disk is not mounted", async function () {
    requireRoot(this);
    await using sandbox = await Sandbox.create();
    const disk = join(sandbox.home, "disk");
    await mkdir(disk);
    try {
      execFileSync("mount", ["-t", "tmpfs", "tmpfs", disk], { stdio: "ignore" });
    } catch {
      skip(this, "mounting is not permitted here");
    }
    const [away, here] = [join(disk, "file"), join(sandbox.data, "file")];
    try {
      await writeFile(away, "on the disk");
      await writeFile(here, "at home");
      await sandbox.configure({
        sources: [
          { name: "disk", paths: [disk] },
          { name: "home", paths: [sandbox.data] },
        ],
      });
      expect((await sandbox.run("init")).exitCode).to.equal(0);
      expect((await sandbox.run("backup")).exitCode, "no daemon has ever seen the disk").to.equal(0);
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
    await writeFile(here, "changed at home");
    const backup = await sandbox.run("backup");
    expect(backup.exitCode, "partly done").to.equal(3);
    expect(backup.stderr).to.contain("disk is not in it").and.to.contain("SOURCE_ROOT_GONE");
    const changes = async (path: string): Promise<string[]> =>
      versionsOf(await sandbox.run("versions", path, "--json")).map(({ change }) => change);
    expect(await changes(away)).to.deep.equal(["stored"]);
    expect(await changes(here)).to.deep.equal(["stored", "stored"]);
    const only = await sandbox.run("backup", "--sources", "disk");
    expect(only.exitCode).to.equal(1);
    expect(only.stderr).to.contain("is its disk mounted?");
  });

  it("is not replaced by a damaged file that waits for a decision, not even by a full backup", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, { on_delete: "hold" });
    await sandbox.start();
    const file = join(sandbox.data, "settings.json");
    await writeFile(file, '{"size": 3}');
    await sandbox.settled(file);
    await writeFile(file, '{"size');
    await until("the damage waits", 10_000, async () => (await sandbox.incidents())[0]?.state === "waiting");
    expect((await sandbox.run("create", "--type", "full")).exitCode, "done, but for the damaged file").to.equal(3);
    expect(versionsOf(await sandbox.run("versions", file, "--json"))).to.have.length(1);
    const shown = await sandbox.run("cat", "latest", file);
    expect(shown.stdout).to.equal('{"size": 3}');
  });

  it("outlives the time that versions are kept, as long as a person has not decided about the loss", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({ tiers: { hot: { keep: "1s" } } }, { on_delete: "hold" });
    await sandbox.start();
    const [file, other] = [join(sandbox.data, "file"), join(sandbox.data, "other")];
    await writeFile(file, "wanted");
    await sandbox.settled(file);
    await rm(file);
    await until("it waits", 10_000, async () => (await sandbox.incidents())[0]?.state === "waiting");
    // Old versions go when enough commits have grown old.
    for (let round = 1; round <= 2 * COMMITS_THINNED; round += 1) {
      await writeFile(other, String(round));
      expect((await sandbox.run("backup")).exitCode).to.equal(0);
      if (round % COMMITS_THINNED !== 0) continue;
      await delay(1_100);
      expect((await sandbox.run("gc")).exitCode).to.equal(0);
    }
    const [incident] = await sandbox.incidents();
    expect((await sandbox.run("incidents", "approve", incident?.id ?? "")).exitCode).to.equal(0);
    expect(await readFile(file, "utf8")).to.equal("wanted");
  });

  it("is not left unwatched by a reload that comes during the first backup", async () => {
    await using sandbox = await Sandbox.create();
    await writeFile(join(sandbox.data, "large"), randomBytes(FIRST_BACKUP_BYTES));
    const daemon = new DaemonProcess(["daemon"], sandbox.environment);
    try {
      await until("it answers", 20_000, () => existsSync(sandbox.socket));
      await sandbox.configure({}, { exclude: ["*.tmp"] });
      daemon.child.kill("SIGHUP");
      await until("it has decided", 30_000, () => /config\.(reloaded|refused)/.test(daemon.output));
      expect(daemon.output).to.not.contain("config.refused");
      await until("it is watched", 30_000, async () => {
        const { sources } = await sandbox.json<{ sources: { state: string }[] }>("status");
        return sources.map(({ state }) => state).join() === "protected";
      });
    } finally {
      await daemon.end("SIGKILL");
    }
  });
});

describe("a folder that was not protected for a while", () => {
  it("is not given back what its owner deleted in that time", async () => {
    await using sandbox = await Sandbox.create();
    const more = join(sandbox.home, "more");
    await mkdir(more);
    for (const name of ["kept", "deleted"]) await writeFile(join(more, name), name);
    await sandbox.start();
    expect((await sandbox.run("protect", more)).exitCode).to.equal(0);
    expect((await sandbox.run("unprotect", more)).exitCode).to.equal(0);
    await rm(join(more, "deleted"));
    expect((await sandbox.run("protect", more)).exitCode).to.equal(0);
    expect(await sandbox.incidents()).to.deep.equal([]);
    const versions = versionsOf(await sandbox.run("versions", join(more, "deleted"), "--json"));
    expect(versions.map(({ change }) => change)).to.deep.equal(["removed", "stored"]);
    await rm(join(more, "kept"));
    await until("the other is back", 5_000, () => existsSync(join(more, "kept")));
    expect(existsSync(join(more, "deleted"))).to.equal(false);
  });
});
