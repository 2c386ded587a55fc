/** The main job with the built program: what is deleted or broken comes back, as it was. */
import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, chown, lstat, mkdir, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect } from "chai";
import { type Incident, Sandbox, until, versionsOf } from "../support/program.js";

const HEALED_MS = 2_000;

describe("a protected folder", () => {
  it("makes a saved file durable and keeps each version", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    const file = join(sandbox.data, "notes.txt");
    await writeFile(file, "first");
    await sandbox.settled(file, 1);
    await writeFile(file, "second, longer");
    await sandbox.settled(file, 2);
    const versions = versionsOf(await sandbox.run("versions", file, "--json"));
    expect(versions.map((version) => version.sha256)).to.deep.equal(["second, longer", "first"].map(sha256));
    const older = join(sandbox.home, "older");
    const restored = await sandbox.run("restore", "--at", versions[1]?.time ?? "", "--files", file, "--target", older);
    expect(restored.exitCode, restored.stderr).to.equal(0);
    expect(await readFile(join(older, file), "utf8")).to.equal("first");
  });

  it("brings a deleted file back with bytes, mode, owner, times and attributes within two seconds", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "sub", "tool.sh");
    await mkdir(join(sandbox.data, "sub"));
    await writeFile(file, "#!/bin/sh\necho hello\n");
    if (process.getuid?.() === 0) await chown(file, 12345, 23456);
    await chmod(file, 0o4751);
    await utimes(file, 1_500_000_000, 1_400_000_000.25);
    const before = await lstat(file, { bigint: true });
    await sandbox.start();
    await sandbox.settled(file);
    await rm(file);
    await until("the file is back", HEALED_MS, () => existsSync(file));
    expect(await readFile(file, "utf8")).to.equal("#!/bin/sh\necho hello\n");
    const after = await lstat(file, { bigint: true });
    expect([after.mode, after.uid, after.gid, after.mtimeNs]).to.deep.equal([
      before.mode,
      before.uid,
      before.gid,
      before.mtimeNs,
    ]);
    await healedIncidents(sandbox, 1);
  });

  it("brings back a deleted folder tree with links and empty folders", async () => {
    await using sandbox = await Sandbox.create();
    const tree = join(sandbox.data, "tree");
    await mkdir(join(tree, "a", "empty"), { recursive: true });
    await writeFile(join(tree, "a", "one"), "1");
    await writeFile(join(tree, "two"), "2");
    await symlink("a/one", join(tree, "link"));
    for (let index = 0; index < 40; index += 1)
      await writeFile(join(sandbox.data, `other-${String(index)}`), String(index));
    await sandbox.start();
    await rm(tree, { recursive: true });
    await until("the tree is back", 10_000, () => existsSync(join(tree, "a", "one")) && existsSync(join(tree, "two")));
    await until("link and empty folder are back", 5_000, async () => {
      return (
        existsSync(join(tree, "link")) &&
        (await stat(join(tree, "a", "empty")).then(
          (found) => found.isDirectory(),
          () => false,
        ))
      );
    });
  });

  it("puts the good version of a broken JSON file back and keeps the damaged one in quarantine", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    const file = join(sandbox.data, "settings.json");
    await writeFile(file, '{"colour": "green", "size": 3}\n');
    await sandbox.settled(file);
    await writeFile(file, '{"colour": "gre');
    await until("the good version is back", 5_000, async () =>
      (await readFile(file, "utf8").catch(() => "")).includes('"size": 3'),
    );
    const [incident] = await healedIncidents(sandbox, 1);
    expect(incident?.quarantined).to.equal(true);
    const undone = await sandbox.run("incidents", "restore-quarantined", incident?.id ?? "");
    expect(undone.exitCode, undone.stderr).to.equal(0);
    expect(await readFile(file, "utf8")).to.equal('{"colour": "gre');
    expect(undone.stdout).to.match(/put back .*settings\.json: 15 B, written .*, in quarantine since /);
    expect(undone.stderr).to.include(`To undo: holdfast incidents restore-quarantined ${incident?.id ?? ""}`);
  });

  it("says that nothing is protected at a mistyped path, instead of pausing or scanning it", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    for (const command of [
      ["pause", "/no/such/place"],
      ["scan", "--path", "/no/such/place"],
    ]) {
      const refused = await sandbox.run(...command);
      expect(refused.exitCode, refused.stdout).to.equal(1);
      expect(refused.stderr).to.include("nothing at /no/such/place is protected");
    }
    expect((await sandbox.run("pause", dirname(sandbox.data), "--for", "1m")).exitCode, "a folder above").to.equal(0);
  });

  it("heals a file that was emptied", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    const file = join(sandbox.data, "ledger.txt");
    await writeFile(file, "1000 rows of importance\n");
    await sandbox.settled(file);
    await writeFile(file, "");
    await until("the content is back", 5_000, async () => (await readFile(file, "utf8")).startsWith("1000 rows"));
  });

  it("finds what happened while the daemon was down", async () => {
    await using sandbox = await Sandbox.create();
    const lost = join(sandbox.data, "lost.txt");
    const changed = join(sandbox.data, "changed.txt");
    await writeFile(lost, "keep me");
    await writeFile(changed, "old");
    const first = await sandbox.start();
    await sandbox.settled(lost);
    await sandbox.settled(changed);
    expect(await first.end("SIGTERM")).to.equal(0);
    await rm(lost);
    await writeFile(changed, "new content");
    await sandbox.start();
    await until("the lost file is back", 10_000, () => existsSync(lost));
    await sandbox.settled(changed, 2);
  });

  it("treats 1,000 files deleted at once as one incident that one approval undoes", async () => {
    await using sandbox = await Sandbox.create();
    for (let index = 0; index < 1_000; index += 1)
      await writeFile(join(sandbox.data, `f${String(index)}`), `content ${String(index)}`);
    await sandbox.start();
    execFileSync("sh", ["-c", "rm -f f*"], { cwd: sandbox.data });
    let incident: Incident | undefined;
    await until("one incident holds all losses", 20_000, async () => {
      const list = await sandbox.incidents();
      incident = list[0];
      return list.length === 1 && incident?.state === "waiting" && incident.paths_total === 1_000;
    });
    expect(await readdir(sandbox.data)).to.have.length(0);
    const approved = await sandbox.run("incidents", "approve", incident?.id ?? "");
    expect(approved.exitCode, approved.stderr).to.equal(0);
    await until("all files are back", 30_000, async () => (await readdir(sandbox.data)).length === 1_000);
    expect(await readFile(join(sandbox.data, "f999"), "utf8")).to.equal("content 999");
    expect(await sandbox.incidents()).to.have.length(1);
  });

  it("respects a second deletion: the owner means it", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    const file = join(sandbox.data, "unwanted.txt");
    await writeFile(file, "go away");
    await sandbox.settled(file);
    await rm(file);
    await until("the file is back once", 5_000, () => existsSync(file));
    await healedIncidents(sandbox, 1);
    await rm(file);
    await until("the second deletion is recorded", 10_000, async () => {
      const versions = versionsOf(await sandbox.run("versions", file, "--json"));
      return versions[0]?.change === "removed";
    });
    expect(existsSync(file)).to.equal(false);
  });
});

describe("with no usable backup", () => {
  const only = (...chain: unknown[]): Record<string, unknown> => ({
    on_delete: "heal",
    recover: [{ match: "**", accept: "partial", chain }],
  });

  it("git history brings a tracked file back", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, only({ strategy: "git_history", max_commits: 50 }));
    git(sandbox.data, "init", "-q");
    const file = join(sandbox.data, "code.txt");
    await writeFile(file, "committed content\n");
    git(sandbox.data, "add", ".");
    git(sandbox.data, "commit", "-qm", "one");
    await sandbox.start();
    await rm(file);
    await until("git gave it back", 5_000, () => existsSync(file));
    expect(await readFile(file, "utf8")).to.equal("committed content\n");
    const [incident] = await healedIncidents(sandbox, 1);
    expect(incident?.strategy).to.equal("git_history");
  });

  it("an open descriptor brings a file back that a process still holds", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, only({ strategy: "temp_files" }));
    const file = join(sandbox.data, "held.log");
    await writeFile(file, "still open somewhere\n");
    const holder = spawn("tail", ["-f", file], { stdio: "ignore" });
    try {
      await sandbox.start();
      await until("tail has it open", 5_000, () =>
        execFileSync("sh", ["-c", `ls -l /proc/${String(holder.pid)}/fd`]).includes("held.log"),
      );
      await rm(file);
      await until("the descriptor gave it back", 5_000, () => existsSync(file));
      expect(await readFile(file, "utf8")).to.equal("still open somewhere\n");
    } finally {
      holder.kill();
    }
  });

  it("an editor's backup file brings a file back", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, only({ strategy: "temp_files" }));
    const file = join(sandbox.data, "letter.txt");
    await writeFile(file, "Dear all,\n");
    await writeFile(`${file}~`, "Dear all,\n");
    await sandbox.start();
    await rm(file);
    await until("the backup file gave it back", 5_000, () => existsSync(file));
    expect(await readFile(file, "utf8")).to.equal("Dear all,\n");
  });

  it("the logs rebuild a file by a declared recipe when a person asks for it", async () => {
    await using sandbox = await Sandbox.create();
    const logs = join(sandbox.home, "logs");
    await mkdir(logs);
    const lines = [
      { file: "state.json", entry: { id: "a", value: 1 } },
      { file: "state.json", entry: { id: "b", value: 2 } },
      { file: "another.json", entry: { id: "c", value: 9 } },
      { file: "state.json", entry: { id: "a", value: 3 } },
    ];
    await writeFile(join(logs, "state.jsonl"), lines.map((line) => JSON.stringify(line)).join("\n"));
    const recipe = {
      files: ["*.jsonl"],
      match: { file: "{name}" },
      record: "entry",
      output: { mode: "last_wins", key: "id" },
    };
    await sandbox.configure({}, only({ strategy: "reconstruct_from_logs", log_dir: logs, ...recipe }));
    const file = join(sandbox.data, "state.json");
    await writeFile(
      file,
      JSON.stringify([
        { id: "a", value: 3 },
        { id: "b", value: 2 },
      ]),
    );
    await sandbox.start();
    await rm(file);
    await until("the logs gave it back", 5_000, () => existsSync(file));
    expect(JSON.parse(await readFile(file, "utf8"))).to.deep.equal([
      { id: "a", value: 3 },
      { id: "b", value: 2 },
    ]);
  });

  it("names the commands to try by hand when nothing helps", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.configure({}, only({ strategy: "git_history" }, { strategy: "manual_recovery", alert: true }));
    const file = join(sandbox.data, "only-copy.txt");
    await writeFile(file, "nowhere else");
    await sandbox.start();
    await rm(file);
    await until("the incident failed", 10_000, async () => (await sandbox.incidents())[0]?.state === "failed");
    const shown = await sandbox.run("incidents", "show", (await sandbox.incidents())[0]?.id ?? "");
    expect(shown.stdout).to.match(/holdfast (versions|recover|restore)/);
  });
});

async function healedIncidents(sandbox: Sandbox, count: number): Promise<Incident[]> {
  let list: Incident[] = [];
  await until(`${String(count)} incidents are healed`, 5_000, async () => {
    list = (await sandbox.incidents()).filter((incident) => incident.state === "healed");
    return list.length >= count;
  });
  return list;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
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
