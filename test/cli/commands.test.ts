/** The commands against a real socket: what they ask, what they print, and how they end. */
import { expect } from "chai";
import { HoldfastError } from "../../src/base/errors.js";
import { allCommands } from "../../src/cli/program.js";
import { commandReference } from "../../src/cli/reference.js";
import { readFile } from "node:fs/promises";
import { type TestServer, startServer } from "../api/api-server.js";
import { doneJob, manifest } from "../api/fake-services.js";
import { projectPath } from "../support/project.js";
import { useTempFolder } from "../support/temp-folder.js";
import { type CliResult, runCli } from "./run-cli.js";

describe("the command line with a daemon", () => {
  const folder = useTempFolder("cli");
  let served: TestServer;
  let environment: Record<string, string>;

  beforeEach(async () => {
    served = await startServer(folder().at("api.sock"));
    environment = {
      HOME: folder().path,
      HOLDFAST_SOCKET: served.socketPath,
      HOLDFAST_STATE_DIR: folder().at("state"),
      HOLDFAST_CONFIG: await folder().write("holdfast.yaml", ""),
    };
  });
  afterEach(async () => {
    await served[Symbol.asyncDispose]();
  });

  const run = async (...args: string[]): Promise<CliResult> => await runCli(args, { env: environment });

  for (const [line, exitCode, call] of [
    [
      "create --type full --sources data,etc --tag a,b",
      0,
      'backup {"type":"full","sources":["data","etc"],"tags":["a","b"],"compression":true,"rescan":false}',
    ],
    [
      "backup --no-compression",
      0,
      'backup {"type":"incremental","sources":[],"tags":[],"compression":false,"rescan":false}',
    ],
    ["create --encryption", 78, undefined],
    ["list --filter type=full,source=data", 0, 'list {"type":"full","source":"data"}'],
    ["list --latest", 0, "list {}"],
    ["list --filter nonsense", 2, undefined],
    ["list --sort colour", 2, undefined],
    ["show latest", 0, undefined],
    ["show nope", 1, undefined],
    ["ls latest /data", 0, undefined],
    ["find *.conf", 0, 'find "*.conf"'],
    ["versions /data/a", 1, 'versions "/data/a"'],
    ["diff a b", 0, undefined],
    ["cat latest /data/a", 0, 'content ["latest","/data/a",null]'],
    ["cat latest", 2, undefined],
    ["pin latest", 0, undefined],
    [
      "restore --target /out --files /data/a,*.txt --dry-run",
      0,
      'restore {"files":["/data/a","**/*.txt"],"sources":[],"target":"/out","in_place":false,"overwrite":"if-changed","delete":false,"dry_run":true,"verify":true,"sparse":false}',
    ],
    [
      "restore --at 2026-01-15T10:00:00Z --overwrite never --no-verify --sparse --delete --in-place",
      0,
      'restore {"at_ms":1768471200000,"files":[],"sources":[],"in_place":true,"overwrite":"never","delete":true,"dry_run":false,"verify":false,"sparse":true}',
    ],
    ["restore --overwrite maybe", 2, undefined],
    ["restore --at someday", 2, undefined],
    ["verify --level restore --sample 5", 0, 'verify {"backup_id":"latest","level":"restore","sample":5}'],
    ["verify --sample many", 2, undefined],
    ["verify --sample 5", 2, undefined],
    ["verify --level blocks --sample 5", 2, undefined],
    ["verify --level restore --sample 0", 2, undefined],
    ["verify-checksum --backup-id latest", 0, 'verify {"backup_id":"latest","level":"checksum"}'],
    ["verify-checksum", 2, undefined],
    ["check --read-data", 0, 'check {"level":"full","resume":false}'],
    ["check --read-data --resume", 0, 'check {"level":"full","resume":true}'],
    ["check --resume", 2, undefined],
    ["check --resume --read-data-subset 10%", 2, undefined],
    ["repair --dry-run", 0, 'repair {"dry_run":true,"read_data":false}'],
    ["repair --read-data --from /copy", 0, 'repair {"dry_run":false,"read_data":true,"from":"/copy"}'],
    ["keys remove abab", 0, 'removeKey "abab"'],
    ["keys rotate", 0, "rotateKeys null"],
    ["keys add", 2, undefined],
    ["check --read-data-subset 10%", 0, 'check {"level":"sample","share":0.1}'],
    ["check --read-data-subset lots", 2, undefined],
    ["gc --dry-run", 0, 'gc {"dry_run":true}'],
    ["gc --allow 80%", 0, 'gc {"dry_run":false,"allow_share":0.8}'],
    ["cleanup --dry-run", 0, 'cleanup {"dry_run":true,"force":false}'],
    ["scan --path /data", 4, 'scan "/data"'],
    [
      "recover --file /data/a --strategy git_history",
      0,
      'recover {"file":"/data/a","strategy":"git_history","explain":false}',
    ],
    [
      "recover --file /data/a --explain --to /tmp/a",
      0,
      'recover {"file":"/data/a","strategy":"auto","explain":true,"to":"/tmp/a"}',
    ],
    ["recover --all", 0, 'batch ""'],
    ["recover", 2, undefined],
    ["recover --all --file /a", 2, undefined],
    ["incidents", 0, undefined],
    ["incidents show x", 1, undefined],
    ["incidents approve x", 0, 'approve "x"'],
    ["incidents deny x", 1, undefined],
    [
      "protect /data/more --name more --on-delete hold",
      0,
      'protect {"paths":["/data/more"],"name":"more","on_delete":"hold"}',
    ],
    ["unprotect data", 0, 'unprotect "data"'],
    ["unprotect /data", 0, 'unprotect "/data"'],
    ["pause --for 5m --reason deploy", 0, 'pause [null,300000,"deploy"]'],
    ["pause /data", 0, 'pause ["/data",600000,""]'],
    ["pause --for soon", 2, undefined],
    ["recover --all --to /out", 2, undefined],
    ["recover --all --at 10m", 2, undefined],
    ["resume", 0, undefined],
    ["schedule", 0, undefined],
    ["status", 0, undefined],
    ["health", 0, undefined],
    ["keys", 0, undefined],
    ["keys recovery", 0, undefined],
    ["alerts", 0, undefined],
    ["alerts silence file_lost --for 1h", 0, 'silence ["file_lost",3600000]'],
    ["alerts test nobody", 1, undefined],
    ["alerts ack nothing", 1, undefined],
    ["config reload", 0, undefined],
    ["config check", 0, undefined],
    ["config schema", 0, undefined],
    ["explain REPO_LOCKED", 0, undefined],
    ["explain 11", 0, undefined],
    ["explain /data/a", 0, undefined],
    ["doctor", 0, undefined],
  ] as const) {
    it(`\`${line}\` ends with ${String(exitCode)}`, async () => {
      const result = await run(...line.split(" "));
      expect(result.exitCode, result.stderr + result.stdout).to.equal(exitCode);
      if (call !== undefined) expect(served.services.calls).to.deep.equal([call]);
      if (exitCode === 0) expect(result.stdout).not.to.equal("");
      else if (exitCode !== 4) expect(result.stderr).to.match(/^holdfast: .+ \([A-Z_]+\)\..*Fix: .+/s);
    });

    it(`\`${line} --json\` writes JSON and nothing else`, async () => {
      if (line.startsWith("cat ") && exitCode === 0) return; // bytes are bytes
      const result = await run(...line.split(" "), "--json");
      expect(result.exitCode).to.equal(exitCode);
      const isLines = /^(ls|find|diff) /.test(line);
      const documents = isLines ? result.stdout.trim().split("\n") : [result.stdout];
      for (const document of documents) JSON.parse(document);
      if (exitCode !== 0 && exitCode !== 4) {
        const { error } = JSON.parse(result.stdout) as { error: Record<string, unknown> };
        expect(error).to.have.keys("code", "message", "hint", "details");
        expect(result.stderr).to.equal("");
      }
    });
  }

  it("protect says how many files it could not read, and ends with 3", async () => {
    const told = await run("protect", "/data/sealed", "--name", "sealed");
    expect(told.exitCode).to.equal(3);
    expect(told.stderr).to.contain("2 files could not be read");
    const document = await run("protect", "/data/sealed", "--name", "sealed", "--json");
    expect(document.exitCode).to.equal(3);
    expect((JSON.parse(document.stdout) as [Record<string, unknown>])[0]).to.include({ files_unreadable: 2 });
  });

  it("verify says that a sample goes with a restore only", async () => {
    const { stderr } = await run("verify", "--backup-id", "latest", "--level", "blocks", "--sample", "5");
    expect(stderr).to.contain("--sample").and.to.contain("Fix: holdfast verify --level restore --sample 5");
  });

  it("protect says before it waits for the first backup what it waits for", async () => {
    let words = "";
    const askedAfter: string[] = [];
    served.services.watch.protect = () => {
      askedAfter.push(words);
      return Promise.resolve([]);
    };
    for (const option of [[], ["--quiet"], ["--json"]]) {
      words = "";
      const onWords = (more: string): unknown => (words += more);
      await runCli(["protect", "/data/big", "/data/more", ...option], { env: environment, onWords });
    }
    const [told, ...silent] = askedAfter;
    expect(told).to.contain("/data/big and 1 more").and.to.contain("first backup").and.to.match(/\n$/);
    expect(silent).to.deep.equal(["", ""]);
  });

  it("takes --format json where --json is meant", async () => {
    expect(JSON.parse((await run("list", "--format", "json")).stdout)).to.have.length(2);
    expect((await run("list", "--format", "table")).stdout).to.contain("BACKUP");
    expect((await run("list", "--format", "xml")).exitCode).to.equal(2);
  });

  it("tells a list without backups from one that the filter leaves empty", async () => {
    served.services.backups.list = () => Promise.resolve([]);
    expect((await run("list")).stderr).to.contain("No backups yet");
    const filtered = await run("list", "--filter", "tag=none");
    expect(filtered.stderr).to.contain("No backup fits the filter").and.not.to.contain("yet");
  });

  it("says once that a backup is pinned", async () => {
    const made = manifest("backup_20260115_120000_full", "2026-01-15T12:00:00.000Z");
    const retention = { ...made.retention, pinned: true, kept_by: ["pinned", "daily"] };
    served.services.backups.list = () => Promise.resolve([{ ...made, retention }]);
    expect((await run("list")).stdout).to.match(/ pinned daily\n$/);
  });

  it("names the words that are possible where the daemon refuses one", async () => {
    const { stderr } = await run("alerts", "silence", "nonsense");
    expect(stderr).to.contain("one of the allowed values (file_lost, file_recovered,");
    expect((await run("pause", "--for", "400d")).stderr).to.match(/must be <= 604800 \(USAGE\)/);
  });

  it("says with --verbose which socket it speaks to", async () => {
    expect((await run("status", "--verbose")).stderr).to.contain(served.socketPath);
    expect((await run("status")).stderr).not.to.contain(served.socketPath);
  });

  it("ends with 3 when a backup is partial, and says what to do", async () => {
    const made = manifest("backup_20260115_120000_full", "2026-01-15T12:00:00.000Z");
    const [source] = made.sources;
    const partial = { ...made, sources: [{ ...source, files_unreadable: 2 }], left_out: [] };
    served.services.backups.create = () => Promise.resolve(doneJob("job_1", "backup", partial));
    const result = await run("create");
    expect(result.exitCode).to.equal(3);
    expect(result.stderr).to.contain("2 files could not be read");
  });

  it("ends with 3 when a source could not be in the backup, and names it", async () => {
    const left_out = [{ source: "disk", code: "SOURCE_ROOT_GONE", message: "its file system is not mounted" }];
    const report = { ...manifest("backup_20260115_120000_full", "2026-01-15T12:00:00.000Z"), left_out };
    served.services.backups.create = () => Promise.resolve(doneJob("job_1", "backup", report));
    const result = await run("create");
    expect(result.exitCode).to.equal(3);
    expect(result.stderr).to.contain("disk is not in it: its file system is not mounted (SOURCE_ROOT_GONE)");
  });

  it("ends with 4 when verification fails, and 3 when a restore leaves files out", async () => {
    const report = { backup_id: "b", level: "checksum", files_checked: 1, bytes_checked: 1, duration_seconds: 1 };
    const problems = [{ path: "/data/a", problem: "digest differs" }];
    served.services.backups.verify = () =>
      Promise.resolve(doneJob("job_1", "verify", { ...report, status: "failed", problems }));
    const verified = await run("verify");
    expect(verified.exitCode).to.equal(4);
    expect(verified.stdout).to.contain("/data/a: digest differs");
    const failed = [{ path: "/data/b", code: "TARGET_IO", message: "no space" }];
    const restored = {
      restored: 1,
      skipped: 0,
      deleted: 0,
      bytes: 5,
      verified: true,
      dry_run: false,
      failed,
      warnings: ["something was left out"],
      from: [
        { source: "app", backup_id: "backup_1" },
        { source: "web", backup_id: "backup_2" },
      ],
      plan: [],
    };
    served.services.backups.restore = () => Promise.resolve(doneJob("job_2", "restore", restored));
    const result = await run("restore", "--target", "/out");
    expect(result.exitCode).to.equal(3);
    expect(result.stdout).to.contain("app  from backup_1\n  web  from backup_2");
    expect(result.stderr).to.contain("warning: something was left out");
    expect(result.stderr).to.contain("not restored: /data/b: no space (TARGET_IO)");
  });

  it("tells health by exit codes 0, 5 and 1", async () => {
    for (const [exitCode, state] of [
      [5, "attention"],
      [1, "failing"],
    ] as const) {
      served.services.system.health = () => Promise.resolve({ exit_code: exitCode, state, checks: [] });
      expect((await run("health")).exitCode).to.equal(exitCode);
    }
  });

  it("says FAIL in health only where it does not end with 0", async () => {
    const check = { ok: false, detail: "" };
    const attention = { ...check, name: "watching", level: "attention" } as const;
    const breached = { ...check, name: "backups", level: "breached" } as const;
    const answers = [
      { exit_code: 0, state: "attention", checks: [attention] },
      { exit_code: 5, state: "attention", checks: [attention, breached] },
    ] as const;
    const told: string[] = [];
    for (const answer of answers) {
      served.services.system.health = () => Promise.resolve(answer);
      told.push((await run("health")).stdout);
    }
    expect(told).to.deep.equal([
      "attention\n  WARN  watching  \n",
      "attention\n  WARN  watching  \n  FAIL  backups  \n",
    ]);
  });

  it("carries the daemon's own error with its exit code", async () => {
    served.services.system.reload = () => Promise.reject(new HoldfastError("CONFIG_INVALID", "h.yaml:3:1 unknown key"));
    const result = await run("config", "reload");
    expect(result.exitCode).to.equal(78);
    expect(result.stderr).to.contain("h.yaml:3:1 unknown key (CONFIG_INVALID).");
  });

  it("never sends control characters of a file name to a terminal", async () => {
    const result = await runCli(["scan"], { env: environment, isTerminal: true });
    expect(result.exitCode).to.equal(4);
    expect(result.stdout).to.contain("/data/\\x1b[31mred");
    // eslint-disable-next-line no-control-regex -- the very character that must not be there
    expect(result.stdout.replace(/\u001b\[(?:1|31|32|33|0)m/g, "")).not.to.match(/\u001b/);
  });

  it("paints only on a terminal and never with NO_COLOR", async () => {
    const painted = await runCli(["status"], { env: environment, isTerminal: true });
    expect(painted.stdout).to.contain("\u001b[");
    const plain = await runCli(["status"], { env: { ...environment, NO_COLOR: "1" }, isTerminal: true });
    expect(plain.stdout).not.to.contain("\u001b[");
    expect((await run("status")).stdout).not.to.contain("\u001b[");
  });

  it("keeps words off stderr with --quiet", async () => {
    expect((await run("status", "--quiet")).stderr).to.equal("");
    expect((await run("scan", "--quiet")).stderr).to.equal("");
  });

  it("shows status on one screen that ends with the next command", async () => {
    const { stdout } = await run("status");
    const lines = stdout.trim().split("\n");
    expect(lines.length).to.be.at.most(24);
    expect(lines[0]).to.match(/^PROTECTED/);
    expect(lines.at(-1)).to.match(/^Next: holdfast /);
  });

  it("explains how a path would be recovered, what has nothing, and how to see more", async () => {
    const { stdout } = await run("explain", "/data/a");
    expect(stdout.split("\n").slice(-4)).to.deep.equal([
      "  recovery    pinned -> latest_backup",
      "              pinned: nothing, because the source is not critical",
      "              what each of them has: holdfast recover --explain /data/a",
      "",
    ]);
  });

  it("explains an exit code, with the errors that end with it", async () => {
    const { stdout } = await run("explain", "11");
    expect(stdout).to.match(
      /^Exit code 11: locked by another process\n.*REPO_LOCKED, INDEX_LOCKED, DAEMON_RUNNING\n$/s,
    );
    const document: unknown = JSON.parse((await run("explain", "3", "--json")).stdout);
    expect(document).to.deep.include({ exit_code: 3, codes: ["SOURCE_UNREADABLE", "PARTLY_DONE"] });
  });

  it("names no strategy of a heal that had several", async () => {
    const status = await served.services.system.status();
    const heal = { path: "/data/a", incident_id: "inc_1", at: "2026-01-15T12:00:00.000Z", duration_ms: 2300 };
    served.services.system.status = () => Promise.resolve({ ...status, last_heal: { ...heal, strategy: "" } });
    expect((await run("status")).stdout).to.match(/last heal {2}\/data\/a {2}recovered in 2\.3 s, /);
  });

  it("cancels the job when interrupted, and ends with 130", async () => {
    const stop = new AbortController();
    const cancelled: string[] = [];
    const running = { ...doneJob("job_7", "backup"), state: "running" as const };
    served.services.jobsById.set("job_7", running);
    served.services.backups.create = () => Promise.resolve(running);
    served.services.system.job = (id) => {
      stop.abort(new HoldfastError("INTERRUPTED", "interrupted"));
      return Promise.resolve({ ...running, id });
    };
    served.services.system.cancelJob = (id) => {
      cancelled.push(id);
      return Promise.resolve({ ...running, state: "cancelled" as const });
    };
    const result = await runCli(["create"], { env: environment, signal: stop.signal });
    expect(result.exitCode).to.equal(130);
    expect(cancelled).to.deep.equal(["job_7"]);
  });
});

describe("the command line without a daemon", () => {
  const folder = useTempFolder("cli-alone");
  const run = async (...args: string[]): Promise<CliResult> => {
    const configFile = await folder().write("holdfast.yaml", "sources: []\n");
    const env = { HOME: folder().path, HOLDFAST_SOCKET: folder().at("none.sock"), HOLDFAST_CONFIG: configFile };
    return await runCli(args, { env });
  };

  for (const line of ["health", "pause", "resume", "unprotect x", "alerts", "alerts test x", "config reload"]) {
    it(`\`${line}\` ends with 20`, async () => {
      const result = await run(...line.split(" "));
      expect(result.exitCode).to.equal(20);
      expect(result.stderr).to.contain("DAEMON_UNREACHABLE").and.to.contain(folder().at("none.sock"));
    });
  }

  it("protect without a terminal says how to start one", async () => {
    const result = await run("protect", folder().path);
    expect(result.exitCode).to.equal(20);
    expect(result.stderr).to.contain("--foreground");
  });

  it("tells every fault of a configuration with exit code 78", async () => {
    const bad = await folder().write("bad.yaml", "rotaton: {}\nlog: {level: loud}\n");
    const result = await runCli(["config", "check", "--config", bad], { env: { HOME: folder().path } });
    expect(result.exitCode).to.equal(78);
    expect(result.stderr).to.contain(`${bad}:1:1 unknown key "rotaton"; did you mean "rotation"?`);
    expect(result.stderr).to.contain(`${bad}:2:14 "loud" is not allowed here`);
  });

  it("tells of a group that this machine does not have, where the daemon would not start", async () => {
    const written = "access:\n  socket: {group: no-such-group}\n";
    const bad = await folder().write("group.yaml", written);
    const result = await runCli(["config", "check", "--config", bad], { env: { HOME: folder().path } });
    expect(result.exitCode).to.equal(78);
    expect(result.stderr).to.contain(
      `${bad}:2:19 there is no group "no-such-group"; make it with: groupadd --system no-such-group`,
    );
    const good = await folder().write("good.yaml", written.replace("no-such-group", "root"));
    expect((await runCli(["config", "check", "--config", good], { env: { HOME: folder().path } })).exitCode).to.equal(
      0,
    );
  });
});

describe("the reference of the commands", () => {
  it("is up to date: run `node scripts/reference.mjs` after a build", async () => {
    expect(await readFile(projectPath("docs", "commands.md"), "utf8")).to.equal(commandReference(allCommands));
  });
});
