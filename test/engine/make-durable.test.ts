/** Bringing what a restore wrote to the disk, with koffi and without it. */
import { expect } from "chai";
import { closeSync, openSync } from "node:fs";
import { syncFileSystem } from "../../src/engine/restore/make-durable.js";
import { codeOf } from "../support/engine-keys.js";
import { UNLIMITED } from "../support/engine-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the sync of the file system of an open folder", () => {
  const folder = useTempFolder("make-durable");

  async function sync(native?: Parameters<typeof syncFileSystem>[2]): Promise<boolean> {
    const fd = openSync(folder().path, "r");
    try {
      return await syncFileSystem(fd, UNLIMITED, native);
    } finally {
      closeSync(fd);
    }
  }

  /** A program of this name is the only one that is found. */
  async function withProgram<T>(name: string, script: string, work: () => Promise<T>): Promise<T> {
    const before = process.env["PATH"];
    await folder().write(`bin/${name}`, `#!/bin/sh\n${script}\n`, 0o755);
    process.env["PATH"] = folder().at("bin");
    try {
      return await work();
    } finally {
      process.env["PATH"] = before;
    }
  }

  it("is done by the kernel's call, and without koffi by the program, of that very folder", async function () {
    requirePrograms(this, "sync");
    expect([await sync(), await sync("none")]).to.deep.equal([true, true]);
    const told = `[ "$PWD $*" = "$(cd . && pwd -P) -f ." ] && [ -d bin ]`;
    expect(await withProgram("sync", told, () => sync("none"))).to.equal(true);
  });

  it("is not there where neither is, so that each file is synced by itself", async () => {
    const refusing = (code: string) => ({
      syncFileSystem: () => Promise.reject(Object.assign(new Error(code), { code })),
    });
    expect(await sync(refusing("ENOSYS"))).to.equal(false);
    expect(await withProgram("other", "", () => sync("none"))).to.equal(false);
    expect(await withProgram("sync", "echo 'unrecognized option: f' >&2; exit 1", () => sync("none"))).to.equal(false);
  });

  it("fails when the disk does", async () => {
    const failing = { syncFileSystem: () => Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" })) };
    expect(await codeOf(sync(failing))).to.equal("TARGET_IO");
    const script = "echo \"sync: error syncing '.': Input/output error\" >&2; exit 1";
    expect(await codeOf(withProgram("sync", script, () => sync("none")))).to.equal("TARGET_IO");
  });
});
