/** The lock of a store without koffi: a name, which whoever dies leaves behind; and a lease that cannot be made. */
import { expect } from "chai";
import { execFileSync, spawnSync } from "node:child_process";
import assert from "node:assert";
import { readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { mkdir, readFile, readdir, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { nativeCalls } from "../../src/base/native.js";
import { lockStore } from "../../src/engine/lease/store-lock.js";
import { WriterLease } from "../../src/engine/lease/writer-lease.js";
import { codeOf } from "../support/engine-keys.js";
import { requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The descriptor of the listing itself is gone by then. */
function linkOrNone(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

describe("the lease of a writer", () => {
  const folder = useTempFolder("writer-lease");

  it("that cannot be written, on a full disk, leaves neither a file nor an open descriptor", async function () {
    requireRoot(this);
    const store = await folder().folder("full");
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4k", "tmpfs", store]);
    if (status !== 0) skip(this, "a tmpfs cannot be mounted here");
    try {
      writeFileSync(`${store}/filler`, Buffer.alloc(4096));
      expect(await codeOf(WriterLease.take(store, "ab".repeat(8)))).to.equal("STORE_FULL");
      expect(await readdir(`${store}/leases`)).to.deep.equal([]);
      const open = readdirSync("/proc/self/fd").map((fd) => linkOrNone(`/proc/self/fd/${fd}`));
      expect(open.filter((path) => path?.startsWith(store))).to.deep.equal([]);
    } finally {
      execFileSync("umount", ["-l", store]);
    }
  });
});

describe("the lock of a store, as a name", () => {
  const folder = useTempFolder("store-lock");
  const lock = (): Promise<AsyncDisposable> => lockStore(folder().path, "none");

  /** The number of a process that is gone. */
  function deadProcess(): number {
    return spawnSync("true").pid;
  }

  it("is held by one at a time, and free again when that one lets go", async () => {
    const first = await lock();
    const held = await readFile(folder().at("leases/lock.pid"), "utf8");
    expect(held.startsWith(`${String(process.pid)} ${hostname()} `)).to.equal(true);
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
    await first[Symbol.asyncDispose]();
    await using second = await lock();
    expect(second).to.not.equal(undefined);
    expect(await readdir(folder().at("leases")), "nothing is left beside it").to.deep.equal(["lock.pid"]);
  });

  it("goes to one of those who find that its holder is gone", async () => {
    for (let round = 0; round < 20; round += 1) {
      await folder().write("leases/lock.pid", `${String(deadProcess())} ${hostname()}\n`);
      const attempts = await Promise.allSettled(Array.from({ length: 8 }, lock));
      const held = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
      expect(held, `round ${String(round)}`).to.have.length(1);
      for (const each of held) await each[Symbol.asyncDispose]();
    }
    expect(await readdir(folder().at("leases"))).to.deep.equal([]);
  });

  it("of a process whose number another has by now is free: after a restart of a container or of the machine", async () => {
    const first = await lock();
    const own = await readFile(folder().at("leases/lock.pid"), "utf8");
    await first[Symbol.asyncDispose]();
    const [pid, host, start = "", space] = own.trim().split(" ");
    const [boot, ticks] = start.split(":");
    const earlier = `${String(boot)}:${String(Number(ticks) - 1)}`;
    await folder().write("leases/lock.pid", `${[pid, host, earlier, space, "ab"].join(" ")}\n`);
    const taken = await lock();
    await taken[Symbol.asyncDispose]();
    await folder().write("leases/lock.pid", `${String(pid)} ${String(host)}\n`); // of a program that told no more
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
  });

  for (const [whose, change] of [
    ["a host of the same name, or of the time before a restart,", { start: "another-run:123" }],
    ["a container of the same name on this machine", { space: "pid:[1]" }],
    ["another host", { host: "another-host" }],
  ] as const)
    it(`of ${whose} is free when its holder has been silent for a minute, and not before`, async () => {
      const first = await lock();
      const [, host, start, space] = (await readFile(folder().at("leases/lock.pid"), "utf8")).split(" ");
      await first[Symbol.asyncDispose]();
      const named = { host, start, space, ...change };
      const path = await folder().write(
        "leases/lock.pid",
        `${[String(deadProcess()), named.host, named.start, named.space, "cd"].join(" ")}\n`,
      );
      for (const silentMs of [0, 55_000]) {
        await utimes(path, new Date(), new Date(Date.now() - silentMs));
        expect(await codeOf(lock()), `after ${String(silentMs)} ms`).to.equal("REPO_LOCKED");
      }
      await utimes(path, new Date(), new Date(Date.now() - 65_000));
      await using taken = await lock();
      expect(taken).to.not.equal(undefined);
    });

  it("is written anew as long as its holder lives", async () => {
    await using held = await lockStore(folder().path, "none", 10);
    const path = folder().at("leases/lock.pid");
    const longAgo = new Date(Date.now() - 3_600_000);
    await utimes(path, longAgo, longAgo);
    for (let tries = 0; tries < 200 && (await stat(path)).mtime <= longAgo; tries += 1) await delay(10);
    expect((await stat(path)).mtime).to.be.above(longAgo);
    expect(held).to.not.equal(undefined);
  });

  it("makes no store where there is none", async () => {
    expect(await codeOf(lockStore(folder().at("away"), "none"))).to.equal("STORE_IO");
    expect(await readdir(folder().path)).to.deep.equal([]);
  });

  it("that another took away is left to the other when its holder of before lets go", async () => {
    const first = await lock();
    await rm(folder().at("leases/lock.pid"));
    await using second = await lock();
    await first[Symbol.asyncDispose]();
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
    expect(second).to.not.equal(undefined);
  });

  it("of a program on another host that told no more counts as held: only that host could tell", async () => {
    await folder().write("leases/lock.pid", `${String(deadProcess())} another-host\n`);
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
  });

  it("of the kernel is not kept by a try that failed", async function () {
    const native = nativeCalls();
    if (native === undefined) skip(this, "no koffi");
    await mkdir(folder().at("leases"));
    await symlink("/dev/full", folder().at("leases/lock"));
    for (let tries = 0; tries < 2; tries += 1)
      expect(await codeOf(lockStore(folder().path, native)), `try ${String(tries)}`).to.equal("STORE_IO");
    const refusing = { lockFile: () => assert.fail("ENOLCK") };
    await lockStore(folder().path, refusing).catch(() => undefined);
    const open = readdirSync("/proc/self/fd").map((fd) => linkOrNone(`/proc/self/fd/${fd}`));
    expect(open.filter((path) => path === "/dev/full")).to.deep.equal([]);
  });

  it("is refused on a store that takes no writes", async () => {
    await writeFile(folder().at("leases"), "no folder");
    expect(await codeOf(lock())).to.equal("STORE_IO");
  });
});
