/** The lock of a store without koffi: a name, which whoever dies leaves behind. */
import { expect } from "chai";
import { spawnSync } from "node:child_process";
import assert from "node:assert";
import { readdirSync, readlinkSync } from "node:fs";
import { mkdir, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { nativeCalls } from "../../src/base/native.js";
import { lockStore } from "../../src/engine/lease/store-lock.js";
import { codeOf } from "../support/engine-keys.js";
import { skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The descriptor of the listing itself is gone by then. */
function linkOrNone(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

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
    const [pid, host, start = ""] = own.trim().split(" ");
    const [boot, ticks] = start.split(":");
    const earlier = `${String(boot)}:${String(Number(ticks) - 1)}`;
    for (const other of [earlier, `another-boot:${String(ticks)}`]) {
      await folder().write("leases/lock.pid", `${String(pid)} ${String(host)} ${other}\n`);
      await using taken = await lock();
      expect(taken).to.not.equal(undefined);
    }
    await folder().write("leases/lock.pid", `${String(pid)} ${String(host)}\n`); // of a program that told no more
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
  });

  it("of another host counts as held: only that host could tell", async () => {
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
