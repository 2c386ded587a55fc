/** The lock of a store without koffi: a name, which whoever dies leaves behind. */
import { expect } from "chai";
import { spawnSync } from "node:child_process";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { lockStore } from "../../src/engine/lease/store-lock.js";
import { codeOf } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the lock of a store, as a name", () => {
  const folder = useTempFolder("store-lock");
  const lock = (): Promise<AsyncDisposable> => lockStore(folder().path, "none");

  /** The number of a process that is gone. */
  function deadProcess(): number {
    return spawnSync("true").pid;
  }

  it("is held by one at a time, and free again when that one lets go", async () => {
    const first = await lock();
    expect(await readFile(folder().at("leases/lock.pid"), "utf8")).to.equal(`${String(process.pid)} ${hostname()}\n`);
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

  it("of another host counts as held: only that host could tell", async () => {
    await folder().write("leases/lock.pid", `${String(deadProcess())} another-host\n`);
    expect(await codeOf(lock())).to.equal("REPO_LOCKED");
  });

  it("is refused on a store that takes no writes", async () => {
    await writeFile(folder().at("leases"), "no folder");
    expect(await codeOf(lock())).to.equal("STORE_IO");
  });
});
