/**
 * `holdfast mount` with the built program, the real kernel and ordinary tools: what is mounted is what was stored; it
 * is read-only, comes and goes cleanly, and says what is wrong when it cannot be mounted.
 */
import { expect } from "chai";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { link, lstat, mkdir, readFile, readdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { DaemonProcess, Sandbox, until } from "../support/program.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const MOUNTED_MS = 20_000;

/** A sandbox with files of many kinds, one backup, and a mount of it. */
class Mounted implements AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly point: string;
  #process: DaemonProcess | undefined;

  private constructor(sandbox: Sandbox) {
    this.sandbox = sandbox;
    this.point = join(sandbox.home, "mnt");
  }

  static async create(): Promise<Mounted> {
    const mounted = new Mounted(await Sandbox.create());
    await mkdir(mounted.point);
    return mounted;
  }

  /** Makes the repository where there is none, and a backup. */
  async backUp(): Promise<void> {
    if (!existsSync(this.sandbox.store)) await this.sandbox.json("init");
    await this.sandbox.json("create");
  }

  /** The mounted copy of the protected folder. */
  get data(): string {
    return join(this.point, "latest", this.sandbox.data);
  }

  get process(): DaemonProcess {
    if (this.#process === undefined) throw new Error("nothing was mounted");
    return this.#process;
  }

  async mount(...options: string[]): Promise<DaemonProcess> {
    const started = new DaemonProcess(["mount", this.point, ...options], this.sandbox.environment);
    this.#process = started;
    await until("it is mounted", MOUNTED_MS, () => {
      if (started.exitCode !== undefined) throw new Error(`mount ended: ${started.output}`);
      return started.output.includes("press Ctrl-C to unmount"); // the last line: what was cleared away is told before
    });
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end("SIGTERM");
    if (await isMounted(this.point)) await run("umount", ["-l", this.point]);
    await this.sandbox[Symbol.asyncDispose]();
  }
}

async function isMounted(path: string): Promise<boolean> {
  return (await readFile("/proc/self/mountinfo", "utf8")).includes(` ${path} `);
}

function requireFuse(context: Mocha.Context): void {
  requireRoot(context);
  if (!existsSync("/dev/fuse")) skip(context, "there is no /dev/fuse");
}

/** A program's outcome, also when it fails. */
async function outcome(program: string, ...args: string[]): Promise<{ code: number; out: string }> {
  return await new Promise((resolve) => {
    execFile(program, args, { maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), out: stdout + stderr });
    });
  });
}

describe("holdfast mount", () => {
  it("shows what was stored, down to the attributes, to rsync", async function () {
    requireFuse(this);
    requirePrograms(this, "rsync", "setfattr", "setfacl");
    await using mounted = await Mounted.create();
    const { data } = mounted.sandbox;
    await mkdir(join(data, "deep/er"), { recursive: true });
    await writeFile(join(data, "plain"), "content\n");
    await writeFile(Buffer.concat([Buffer.from(`${data}/odd-`), Buffer.of(0xff, 0x0a)]), "odd");
    await writeFile(join(data, "empty"), "");
    await writeFile(join(data, "big"), Buffer.alloc(9_000_000, "0123456789abcdef!"));
    await link(join(data, "plain"), join(data, "deep/same"));
    await symlink("../nowhere", join(data, "deep/dangling"));
    await run("mkfifo", [join(data, "pipe")]);
    await run("mknod", [join(data, "null"), "c", "1", "3"]);
    await run("truncate", ["-s", "3M", join(data, "sparse")]);
    await run("setfattr", ["-n", "user.colour", "-v", "blue", join(data, "plain")]);
    await run("setfacl", ["-m", "u:daemon:rw", join(data, "empty")]);
    await run("chown", ["1234:2345", join(data, "big")]);
    await run("chmod", ["6751", join(data, "big")]);
    await run("touch", ["-d", "1960-02-03 04:05:06.123456789", join(data, "empty")]);
    await run("touch", ["-d", "2150-01-01 00:00:00.5", join(data, "sparse")]);
    await mounted.backUp();
    await mounted.mount();
    const args = ["-aHAXn", "--delete", "--checksum", "--itemize-changes", `${mounted.data}/`, `${data}/`];
    expect(await outcome("rsync", ...args)).to.deep.equal({ code: 0, out: "" });
    const [one, other] = [await stat(join(mounted.data, "plain")), await stat(join(mounted.data, "deep/same"))];
    expect(one.ino).to.equal(other.ino);
    expect(one.nlink).to.equal(2);
    expect((await run("cmp", [join(data, "big"), join(mounted.data, "big")])).stdout).to.equal("");
  });

  it("is read-only", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    await writeFile(join(mounted.sandbox.data, "a"), "a");
    await mounted.backUp();
    await mounted.mount();
    for (const [program, ...args] of [
      ["touch", join(mounted.data, "new")],
      ["rm", "-f", join(mounted.data, "a")],
      ["chmod", "777", join(mounted.data, "a")],
      ["mkdir", join(mounted.point, "x")],
      ["mv", join(mounted.data, "a"), join(mounted.data, "b")],
    ] as const) {
      const { code, out } = await outcome(program, ...args);
      expect([program, code]).to.deep.equal([program, 1]);
      expect(out).to.include("Read-only file system");
    }
  });

  it("shows a folder of 20,000 names whole, with the same inode numbers at each mount", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    const many = join(mounted.sandbox.data, "many");
    await mkdir(many);
    await run("sh", ["-c", 'cd "$1" && seq 1 20000 | xargs touch', "sh", many]);
    await mounted.backUp();
    await mounted.mount();
    const names = await readdir(join(mounted.data, "many"));
    expect(names).to.have.length(20_000);
    expect(new Set(names).size).to.equal(20_000);
    const before = await lstat(join(mounted.data, "many/777"));
    await mounted.process.end("SIGTERM");
    await mounted.mount();
    expect((await lstat(join(mounted.data, "many/777"))).ino).to.equal(before.ino);
  });

  it("serves many readers at once", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    const { data } = mounted.sandbox;
    await run("sh", [
      "-c",
      'cd "$1" && for i in $(seq 1 300); do echo "file $i" > f$i; done; head -c 8000000 /dev/urandom > big',
      "sh",
      data,
    ]);
    await mounted.backUp();
    await mounted.mount();
    const readers = Array.from({ length: 12 }, async (_, index) =>
      index % 3 === 0
        ? await outcome("cmp", join(data, "big"), join(mounted.data, "big"))
        : await outcome("diff", "-r", data, mounted.data),
    );
    for (const result of await Promise.all(readers)) expect(result).to.deep.equal({ code: 0, out: "" });
  });

  it("shows a new backup without being mounted again, beside a running daemon", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    const { sandbox } = mounted;
    await writeFile(join(sandbox.data, "a"), "one");
    await sandbox.start();
    await sandbox.run("create", "--type", "full");
    await mounted.mount();
    expect(await readFile(join(mounted.data, "a"), "utf8")).to.equal("one");
    const before = (await readdir(mounted.point)).length;
    await writeFile(join(sandbox.data, "a"), "second");
    await sandbox.settled(join(sandbox.data, "a"), 2);
    await sandbox.run("create");
    await until("the new backup is there", 10_000, async () => (await readdir(mounted.point)).length > before);
    await until(
      "latest is the new one",
      10_000,
      async () => (await readFile(join(mounted.data, "a"), "utf8")) === "second",
    );
  });

  it("unmounts at Ctrl-C and at umount, and ends with 0 both times", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    await mounted.backUp();
    const first = await mounted.mount();
    expect(await first.end("SIGINT")).to.equal(0);
    expect(await isMounted(mounted.point)).to.equal(false);
    const second = await mounted.mount();
    await run("umount", [mounted.point]);
    await until("the command ends", 5_000, () => second.exitCode !== undefined);
    expect(second.exitCode).to.equal(0);
  });

  it("ends although a program still has a file of it open", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    await writeFile(join(mounted.sandbox.data, "a"), "a");
    await mounted.backUp();
    const process = await mounted.mount();
    const holder: ChildProcess = spawn("sh", ["-c", 'exec 3<"$1"; echo open; sleep 60', "sh", join(mounted.data, "a")]);
    try {
      await new Promise((resolve) => holder.stdout?.once("data", resolve));
      expect(await process.end("SIGINT")).to.equal(0);
      expect(process.output).to.include("still in use");
      expect(await isMounted(mounted.point)).to.equal(false);
    } finally {
      holder.kill("SIGKILL");
    }
  });

  it("clears away what a crash left mounted, and says so", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    await mounted.backUp();
    await (await mounted.mount()).end("SIGKILL");
    expect((await outcome("ls", mounted.point)).out).to.include("Transport endpoint is not connected");
    const again = await mounted.mount();
    expect(again.output).to.include("was cleared away");
    expect(await readdir(mounted.point)).to.have.length(2);
  });

  it("gives an input/output error, never wrong bytes, for a damaged store", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    const { sandbox } = mounted;
    await run("sh", ["-c", 'head -c 3000000 /dev/urandom > "$1"', "sh", join(sandbox.data, "big")]);
    await mounted.backUp();
    await run("sh", ["-c", DAMAGE_PACKS, "sh", sandbox.store]);
    const process = await mounted.mount();
    const { code, out } = await outcome("cat", join(mounted.data, "big"));
    expect(code).to.equal(1);
    expect(out).to.include("Input/output error");
    await until("the reason is told", 5_000, () => process.output.includes("RECORD_DAMAGED"));
  });

  it("says what is wrong with the folder, the system or the repository", async function () {
    requireFuse(this);
    await using mounted = await Mounted.create();
    const { sandbox, point } = mounted;
    await writeFile(join(sandbox.home, "file"), "");
    const noRepository = await sandbox.run("mount", point, "--json");
    expect(noRepository.exitCode).to.equal(10);
    await mounted.backUp();
    const expectCode = async (code: string, ...args: string[]): Promise<void> => {
      const result = await sandbox.run("mount", ...args, "--json");
      expect(result.json()).to.have.nested.property("error.code", code);
      expect(result.json()).to.have.nested.property("error.hint").that.is.not.empty;
    };
    await expectCode("MOUNT_POINT_INVALID", join(sandbox.home, "missing"));
    await expectCode("MOUNT_POINT_INVALID", join(sandbox.home, "file"));
    await expectCode("MOUNT_POINT_INVALID", sandbox.store);
    await expectCode("USAGE", point, "--cache", "1KiB");
    const withoutNative = { ...sandbox.environment, HOLDFAST_NO_NATIVE: "1" };
    const { out } = await new Promise<{ out: string }>((resolve) => {
      execFile(process.execPath, [MAIN, "mount", point, "--json"], { env: withoutNative }, (_error, stdout) => {
        resolve({ out: stdout });
      });
    });
    expect(JSON.parse(out)).to.have.nested.property("error.code", "MOUNT_UNAVAILABLE");
    await mounted.mount();
    await expectCode("REPO_LOCKED", point); // without a daemon the first mount holds the repository
  });

  it("mounts for a user without root, by fusermount3", async function () {
    requireFuse(this);
    requirePrograms(this, "fusermount3", "setpriv", "unshare");
    await using mounted = await Mounted.create();
    const { sandbox, point } = mounted;
    await writeFile(join(sandbox.data, "a"), "for everyone\n");
    await run("chown", ["-R", "nobody", sandbox.home]);
    // In a mount namespace of its own the device may be for everyone, as it is on an ordinary system.
    const env = Object.entries(sandbox.environment).map(([name, value]) => `${name}=${value}`);
    const { out } = await outcome(
      "unshare",
      "-m",
      "sh",
      "-c",
      AS_NOBODY,
      "sh",
      sandbox.home,
      process.execPath,
      MAIN,
      point,
      sandbox.data,
      ...env,
    );
    expect(out).to.include("for everyone");
    expect(out).to.include("user_id=65534");
    expect(out).to.include("ended 0");
    expect(out).to.include("mounts left 0");
  });
});

/** Overwrites 64 bytes in the middle of each pack. */
const DAMAGE_PACKS = `find "$1" -path '*packs*' -type f -size +100k | while read -r pack; do
  size=$(stat -c %s "$pack"); chmod u+w "$pack"
  head -c 64 /dev/zero | dd of="$pack" bs=1 seek=$((size / 2)) conv=notrunc status=none
done`;

const AS_NOBODY = `home=$1 node=$2 main=$3 point=$4 data=$5; shift 5
mknod -m 666 "$home/fuse" c 10 229 && mount --bind "$home/fuse" /dev/fuse || exit 9
exec setpriv --reuid nobody --regid nogroup --clear-groups env -i "$@" sh -c '
"$1" "$2" init >/dev/null 2>&1; "$1" "$2" create >/dev/null 2>&1
"$1" "$2" mount "$3" & pid=$!
for try in $(seq 100); do [ -e "$3/latest" ] && break; sleep 0.1; done
cat "$3/latest$4/a"
grep " $3 " /proc/self/mountinfo
kill -INT $pid; wait $pid; echo "ended $?"
echo "mounts left $(grep -c " $3 " /proc/self/mountinfo)"' sh "$node" "$main" "$point" "$data"`;
