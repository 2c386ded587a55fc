/** What goes wrong on real servers, with the built program: nothing acknowledged is lost and each message helps. */
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { requireRoot } from "../support/requirements.js";
import { type CommandResult, DaemonProcess, Sandbox, until, versionsOf } from "../support/program.js";

/** The long run (`HOLDFAST_TESTS_THOROUGH=1`, about half an hour) kills 200 times. */
const KILLS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 200 : 5;
const KILL_ROUND_LIMIT_MS = 20_000;
/** Kills in the middle of a heal. */
const HEAL_KILLS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 40 : 3;
/** Files that the write load of one round rewrites in turn. */
const NAMES = 20;

interface ErrorLine {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string };
}

describe("a daemon that is killed", () => {
  it(`loses no version it had acknowledged, killed ${String(KILLS)} times under a write load`, async function () {
    this.timeout(KILLS * KILL_ROUND_LIMIT_MS);
    await using sandbox = await Sandbox.create();
    const acknowledged = new Map<string, Set<string>>();
    for (let round = 0; round < KILLS; round += 1) {
      const daemon = await sandbox.start();
      const stop = new AbortController();
      const load = writeLoad(sandbox.data, round, stop.signal);
      await delay(500 + Math.random() * 900);
      for (let index = 0; index < NAMES; index += 4) {
        await noteVersions(sandbox, join(sandbox.data, `${String(round)}-${String(index)}`), acknowledged);
      }
      await delay(Math.random() * 300);
      await daemon.end("SIGKILL");
      stop.abort();
      await load;
    }
    expect(acknowledged.size).to.be.greaterThan(KILLS);
    await sandbox.start();
    for (const [path, digests] of acknowledged) {
      const versions = versionsOf(await sandbox.run("versions", path, "--json"));
      for (const digest of digests) {
        const version = versions.find((candidate) => candidate.sha256 === digest);
        expect(version, `${path} ${digest}`).to.not.equal(undefined);
      }
    }
    const [path, digests] = [...acknowledged].at(-1) ?? ["", new Set<string>()];
    for (const version of versionsOf(await sandbox.run("versions", path, "--json")).filter((each) =>
      digests.has(each.sha256 ?? ""),
    )) {
      const target = join(sandbox.home, "out", version.sha256 ?? "");
      const restored = await sandbox.run("restore", "--at", version.time, "--files", path, "--target", target);
      expect(restored.exitCode, restored.stderr).to.equal(0);
      expect(sha256(await readFile(join(target, path)))).to.equal(version.sha256);
    }
    const check = await sandbox.run("check", "--read-data");
    expect(check.exitCode, check.stdout + check.stderr).to.equal(0);
  });

  it(`brings back after its next start what it had noticed and not placed yet, killed ${String(HEAL_KILLS)} times`, async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "wanted.bin");
    const content = randomBytes(3_000_000);
    for (let round = 0; round < HEAL_KILLS; round += 1) {
      const name = `${file}${String(round)}`;
      await writeFile(name, content);
      const daemon = await sandbox.start();
      await sandbox.settled(name);
      await rm(name);
      await delay(480 + Math.random() * 150); // the grace is 500 ms: before, while and after it is placed
      await daemon.end("SIGKILL");
      const next = await sandbox.start();
      await until(`${name} is back`, 5_000, () => existsSync(name));
      expect(sha256(await readFile(name))).to.equal(sha256(content));
      expect(await readdir(sandbox.data)).to.have.length(round + 1);
      await until("nothing is open", 5_000, async () =>
        (await sandbox.incidents()).every(({ state }) => state === "healed" || state === "returned"),
      );
      await next.end("SIGTERM");
    }
  }).timeout(HEAL_KILLS * KILL_ROUND_LIMIT_MS);

  it("rebuilds its index from the store when the index is deleted", async () => {
    await using sandbox = await Sandbox.create();
    const file = join(sandbox.data, "file.bin");
    const first = await sandbox.start();
    await writeFile(file, randomBytes(300_000));
    await sandbox.settled(file, 1);
    await writeFile(file, randomBytes(400_000));
    await sandbox.settled(file, 2);
    const before = versionsOf(await sandbox.run("versions", file, "--json"));
    await first.end("SIGKILL");
    await rm(join(sandbox.state, "index"), { recursive: true });
    await rm(join(sandbox.state, "journal"), { recursive: true, force: true });
    const second = await sandbox.start();
    expect(versionsOf(await sandbox.run("versions", file, "--json"))).to.deep.equal(before);
    const good = sha256(await readFile(file));
    await rm(file);
    await until("healing works again", 5_000, () => existsSync(file));
    expect(sha256(await readFile(file))).to.equal(good);
    expect(await second.end("SIGTERM")).to.equal(0);
  });
});

describe("a store in trouble", () => {
  it("that is full is told, loses nothing, and goes on when there is space", async function () {
    requireRoot(this);
    await using sandbox = await Sandbox.create();
    const mount = join(sandbox.home, "small");
    const image = join(sandbox.home, "small.img");
    execFileSync("truncate", ["-s", "48M", image]);
    execFileSync("mkfs.ext4", ["-q", image]);
    await mkdir(mount);
    execFileSync("mount", ["-o", "loop", image, mount]);
    try {
      await sandbox.configure({ store: join(mount, "store") });
      const daemon = await sandbox.start();
      const small = join(sandbox.data, "small.txt");
      await writeFile(small, "made it");
      await sandbox.settled(small);
      const ballast = join(mount, "ballast");
      execFileSync("sh", ["-c", `dd if=/dev/zero of=${ballast} bs=1M status=none || true`]);
      const big = join(sandbox.data, "big.bin");
      const content = randomBytes(6_000_000);
      await writeFile(big, content);
      await until("the alert says that the store is full", 20_000, async () => {
        const alerts = await sandbox.run("alerts", "list", "--json");
        return alerts.stdout.includes("storage_full");
      });
      expect((await sandbox.run("health")).exitCode).to.not.equal(0);
      expect(versionsOf(await sandbox.run("versions", small, "--json"))).to.have.length(1);
      await rm(ballast);
      await until("the waiting change is durable", 45_000, async () => {
        const result = await sandbox.run("versions", big, "--json");
        return result.exitCode === 0 && versionsOf(result).length > 0;
      });
      await rm(big);
      await until("and heals", 10_000, () => existsSync(big));
      expect(sha256(await readFile(big))).to.equal(sha256(content));
      expect(await daemon.end("SIGTERM")).to.equal(0);
    } finally {
      await sandbox.daemon.end("SIGKILL");
      execFileSync("umount", [mount]);
    }
  }).timeout(150_000);

  it("whose pack is damaged is found by check, and names what it hits", async () => {
    await using sandbox = await stored(randomBytes(500_000));
    const pack = await anyDataPack(sandbox.store);
    const file = await open(pack, "r+");
    await file.write(Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]), 0, 8, Math.floor((await stat(pack)).size / 2));
    await file.close();
    const check = await sandbox.run("check", "--read-data");
    expect(check.exitCode).to.equal(4);
    expect(check.stdout + check.stderr).to.contain("payload.bin");
    const out = join(sandbox.home, "out");
    const restore = await sandbox.run("restore", "--backup-id", "latest", "--target", out);
    expect(restore.exitCode).to.not.equal(0);
    expect(existsSync(join(out, sandbox.data, "payload.bin")), "no wrong byte is delivered").to.equal(false);
  });

  it("refuses a wrong password with code 12", async () => {
    await using sandbox = await Sandbox.create();
    const [right, wrong] = [join(sandbox.home, "right"), join(sandbox.home, "wrong")];
    await writeFile(right, "correct horse", { mode: 0o600 });
    await writeFile(wrong, "battery staple", { mode: 0o600 });
    const made = await sandbox.run("init", "--store", sandbox.store, "--password-file", right);
    expect(made.exitCode, made.stderr).to.equal(0);
    const opened = await sandbox.run("list", "--password-file", wrong, "--json");
    expect(opened.exitCode).to.equal(12);
    expect((opened.json() as ErrorLine).error.code).to.equal("REPO_KEY_WRONG");
    expect((await sandbox.run("list", "--password-file", right)).exitCode).to.equal(0);
  });

  it("that cannot be written is told with a code", async function () {
    requireRoot(this);
    await using sandbox = await stored(Buffer.from("x"));
    execFileSync("mount", ["--bind", sandbox.store, sandbox.store]);
    try {
      execFileSync("mount", ["-o", "remount,ro,bind", sandbox.store]);
      const result = await sandbox.run("create", "--type", "full", "--json");
      expect(result.exitCode).to.equal(1);
      expect((result.json() as ErrorLine).error.code).to.equal("STORE_READ_ONLY");
    } finally {
      execFileSync("umount", [sandbox.store]);
    }
  });

  it("that does not exist is code 10", async () => {
    await using sandbox = await Sandbox.create();
    const result = await sandbox.run("list");
    expect(result.exitCode).to.equal(10);
    expect(result.stderr).to.contain("REPO_NOT_FOUND").and.to.contain("Fix:");
  });
});

describe("a source in trouble", () => {
  it("with an unreadable file is backed up without it, exit 3", async function () {
    requireRoot(this); // root makes a file that the command, run as an ordinary user, cannot read
    await using sandbox = await stored(Buffer.from("x"));
    await writeFile(join(sandbox.data, "fine"), "fine");
    await writeFile(join(sandbox.data, "secret"), "no entry");
    execFileSync("chown", ["-R", "65534:65534", sandbox.home]);
    execFileSync("chown", ["0:0", join(sandbox.data, "secret")]);
    await chmod(join(sandbox.data, "secret"), 0o000);
    expect(asNobody(sandbox, "create", "--type", "full").exitCode).to.equal(3);
  });

  it("whose root vanished is no mass deletion, and heals when it is back", async () => {
    await using sandbox = await Sandbox.create();
    const root = join(sandbox.data, "root");
    await mkdir(root);
    for (let index = 0; index < 30; index += 1) await writeFile(join(root, `f${String(index)}`), "x");
    await sandbox.configure({}, { paths: [root] });
    await sandbox.start();
    await rename(root, `${root}-away`);
    await until("the status says that the root is gone", 10_000, async () => {
      const { sources } = await sandbox.json<{ sources: { state: string }[] }>("status");
      return sources[0]?.state === "root_gone";
    });
    await rename(`${root}-away`, root);
    await until("it is protected again", 15_000, async () => {
      const { sources } = await sandbox.json<{ sources: { state: string }[] }>("status");
      return sources[0]?.state === "protected";
    });
    expect(await readdir(root)).to.have.length(30);
    await rm(join(root, "f7"));
    await until("and heals", 10_000, () => existsSync(join(root, "f7")));
  });
});

describe("misuse", () => {
  it("a second daemon is refused with code 11, and the first goes on", async () => {
    await using sandbox = await Sandbox.create();
    await sandbox.start();
    const second = await sandbox.run("daemon");
    expect(second.exitCode).to.equal(11);
    expect(second.stderr).to.contain("Fix:");
    expect((await sandbox.run("status")).exitCode).to.equal(0);
  });

  it("a broken configuration names the line and the nearest key, code 78", async () => {
    await using sandbox = await Sandbox.create();
    await writeFile(sandbox.configPath, `store: ${sandbox.store}\nsources: [${sandbox.data}]\nrotaton: {daily: 3}\n`);
    const result = await sandbox.run("config", "check");
    expect(result.exitCode).to.equal(78);
    expect(result.stderr).to.contain(":3:").and.to.contain("rotation");
    expect((await sandbox.run("daemon")).exitCode).to.equal(78);
  });

  it("a reload that is asked for before the daemon is up is done when it is, and not forgotten", async () => {
    await using sandbox = await Sandbox.create();
    const daemon = new DaemonProcess(["daemon"], sandbox.environment);
    sandbox.adopt(daemon);
    const startMs = performance.now();
    // Without a pause: the socket comes some milliseconds after the state.
    while (!existsSync(join(sandbox.state, "journal")) && performance.now() - startMs < 10_000);
    expect(existsSync(sandbox.socket), "it is not up yet").to.equal(false);
    await sandbox.configure({}, { exclude: ["*.tmp"] });
    daemon.child.kill("SIGHUP");
    await until("it has decided", 20_000, () => /config\.(reloaded|refused)/.test(daemon.output));
    expect(daemon.output).to.not.contain("config.refused");
  });

  it("a reload with a broken configuration keeps the old one; a good one is taken", async () => {
    await using sandbox = await Sandbox.create();
    const other = join(sandbox.home, "other");
    await mkdir(other);
    await sandbox.start();
    const good = await readFile(sandbox.configPath, "utf8");
    await writeFile(sandbox.configPath, good.replace('"sources"', '"surces"'));
    expect((await sandbox.run("config", "reload")).exitCode).to.equal(78);
    const names = async (): Promise<string[]> =>
      (await sandbox.json<{ sources: { name: string }[] }>("status")).sources.map((source) => source.name);
    expect(await names()).to.deep.equal(["data"]);
    await sandbox.configure({
      sources: [
        { name: "data", paths: [sandbox.data] },
        { name: "other", paths: [other] },
      ],
    });
    const taken = await sandbox.run("config", "reload");
    expect(taken.exitCode, taken.stderr).to.equal(0);
    expect(await names()).to.have.members(["data", "other"]);
    const file = join(other, "new.txt");
    await writeFile(file, "hello");
    await sandbox.settled(file);
  });
});

async function stored(content: Buffer): Promise<Sandbox> {
  const sandbox = await Sandbox.create();
  await writeFile(join(sandbox.data, "payload.bin"), content);
  const made = await sandbox.run("init", "--store", sandbox.store);
  if (made.exitCode !== 0) throw new Error(made.stderr);
  const backup = await sandbox.run("create", "--type", "full");
  if (backup.exitCode !== 0) throw new Error(backup.stderr);
  return sandbox;
}

async function anyDataPack(store: string): Promise<string> {
  for (const name of await readdir(join(store, "packs", "d"), { recursive: true })) {
    const path = join(store, "packs", "d", name);
    if ((await stat(path)).isFile()) return path;
  }
  throw new Error("the store has no data pack");
}

async function writeLoad(folder: string, round: number, signal: AbortSignal): Promise<void> {
  for (let count = 0; !signal.aborted; count += 1) {
    // each name rests for about 800 ms between two writes, long enough to become durable
    await writeFile(
      join(folder, `${String(round)}-${String(count % NAMES)}`),
      randomBytes(2_000 + (count % 7) * 9_000),
    );
    await delay(40);
  }
}

async function noteVersions(sandbox: Sandbox, path: string, into: Map<string, Set<string>>): Promise<void> {
  const result = await sandbox.run("versions", path, "--json");
  if (result.exitCode !== 0) return;
  const known = into.get(path) ?? new Set();
  for (const version of versionsOf(result)) if (version.sha256 !== null) known.add(version.sha256);
  if (known.size > 0) into.set(path, known);
}

function asNobody(sandbox: Sandbox, ...args: string[]): Pick<CommandResult, "exitCode"> {
  const environment = Object.entries(sandbox.environment).map(([name, value]) => `${name}=${value}`);
  const main = new URL("../../src/cli/main.js", import.meta.url).pathname;
  try {
    execFileSync(
      "setpriv",
      ["--reuid=65534", "--regid=65534", "--clear-groups", "env", ...environment, process.execPath, main, ...args],
      { stdio: "pipe" },
    );
    return { exitCode: 0 };
  } catch (error) {
    return { exitCode: (error as { status: number }).status };
  }
}

function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
