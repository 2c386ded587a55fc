/** The local backend: the contract, durability in the right order, and every fault named. */
import { chmod, mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { Backend } from "../../src/storage/backend.js";
import type { FileIo } from "../../src/storage/file-io.js";
import { clearStaging, localFolderOf, openBackend } from "../../src/storage/open.js";
import { backendContract } from "../contract/backend.js";
import { codeOf, NEVER, thrownCode } from "../support/engine-keys.js";
import { FaultIo, type IoCall } from "../support/fault-io.js";
import { requireNoRoot } from "../support/requirements.js";
import { TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("local backend", () => {
  const made: TempFolder[] = [];
  after(async () => {
    for (const folder of made) await folder[Symbol.asyncDispose]();
  });

  backendContract("local folder", async () => {
    const folder = await TempFolder.create("backend");
    made.push(folder);
    return await openBackend(folder.at("store"), { create: true });
  });

  describe("on its own", () => {
    const folder = useTempFolder("local");

    async function open(io?: FileIo): Promise<Backend> {
      return await openBackend(folder().at("store"), { create: true, ...(io === undefined ? {} : { io }) });
    }

    it("syncs the content before the name, and the name before it answers", async () => {
      const io = new FaultIo();
      const backend = await open(io);
      io.calls.length = 0;
      await backend.put("packs/d/ab/name", Buffer.from("content"), NEVER);
      const order = io.calls.map(({ call, path }) => `${call} ${path.replace(folder().at("store"), "")}`);
      const at = (text: string): number => order.findIndex((entry) => entry.startsWith(text));
      expect(at("write")).to.be.lessThan(at("sync "));
      expect(at("sync ")).to.be.lessThan(at("link"));
      expect(order.lastIndexOf("syncFolder /packs/d/ab")).to.be.greaterThan(at("link"));
      for (const parent of ["/packs/d", "/packs", ""]) expect(order).to.include(`syncFolder ${parent}`);
    });

    it("says what is wrong, leaves no object and no staged file, and works again afterwards", async () => {
      const codes = { ENOSPC: "STORE_FULL", EROFS: "STORE_READ_ONLY", EACCES: "PERMISSION_DENIED", EIO: "STORE_IO" };
      for (const [errno, code] of Object.entries(codes)) {
        for (const step of ["create", "write", "sync", "link", "makeFolder"] as IoCall[]) {
          const io = new FaultIo();
          const backend = await open(io);
          io.partialShare = 0.5;
          io.plan = (call) => (call === step ? errno : undefined);
          expect(await codeOf(backend.put(`k/${errno}-${step}`, Buffer.from("x"), NEVER)), step).to.equal(code);
          io.plan = () => undefined;
          expect(await readdir(backend.stagingFolder)).to.deep.equal([]);
          await backend.put(`k/${errno}-${step}`, Buffer.from("x"), NEVER);
        }
      }
    });

    it("stores where the file system has no hard links, still without overwriting", async () => {
      const io = new FaultIo();
      io.plan = (call) => (call === "link" ? "EPERM" : undefined);
      const backend = await open(io);
      await backend.put("a/b", Buffer.from("x"), NEVER);
      await backend.put("a/b", Buffer.from("x"), NEVER);
      expect(await codeOf(backend.put("a/b", Buffer.from("y"), NEVER))).to.equal("OBJECT_EXISTS");
      expect((await backend.get("a/b", NEVER)).toString()).to.equal("x");
      expect(await readdir(backend.stagingFolder)).to.deep.equal([]);
    });

    it("clears the staging folder when asked, and only it", async () => {
      const backend = await open();
      await backend.put("kept", Buffer.from("x"), NEVER);
      await writeFile(`${backend.stagingFolder}/left`, "half");
      expect(await clearStaging(backend)).to.equal(1);
      expect(await clearStaging(backend)).to.equal(0);
      expect((await backend.get("kept", NEVER)).toString()).to.equal("x");
    });

    it("tells the space of its file system", async () => {
      const space = await (await open()).space();
      expect(space?.totalBytes).to.be.greaterThan(space?.freeBytes ?? Infinity);
      expect(space?.freeBytes).to.be.greaterThan(0);
    });

    it("follows no symbolic link in place of an object", async () => {
      const backend = await open();
      await mkdir(folder().at("store", "keys"));
      await writeFile(folder().at("secret"), "secret");
      await symlink(folder().at("secret"), folder().at("store", "keys", "a"));
      expect(await codeOf(backend.get("keys/a", NEVER))).to.equal("STORE_IO");
    });

    it("is refused by permissions with PERMISSION_DENIED", async function () {
      requireNoRoot(this);
      const backend = await open();
      await chmod(folder().at("store"), 0o500);
      expect(await codeOf(backend.put("a/b", Buffer.from("x"), NEVER))).to.equal("PERMISSION_DENIED");
    });
  });
});

describe("opening a place", () => {
  const folder = useTempFolder("open");

  it("takes a path or a file URL", async () => {
    await openBackend(folder().at("s t o r e"), { create: true });
    const backend = await openBackend(`file://${folder().at("s%20t%20o%20r%20e")}`);
    expect(localFolderOf(backend.url)).to.equal(folder().at("s t o r e"));
  });

  it("is STORE_IO where a folder is to be made that cannot be", async () => {
    expect(await codeOf(openBackend("/proc/holdfast/store", { create: true }))).to.equal("STORE_IO");
  });

  it("is REPO_NOT_FOUND for a missing folder or a file", async () => {
    expect(await codeOf(openBackend(folder().at("missing")))).to.equal("REPO_NOT_FOUND");
    await folder().write("file", "x");
    expect(await codeOf(openBackend(folder().at("file")))).to.equal("REPO_NOT_FOUND");
    expect(await readdir(folder().path)).to.deep.equal(["file"]);
  });

  it("says of other schemes that they have no driver, with a hint", async () => {
    expect(await codeOf(openBackend("s3://bucket/store"))).to.equal("UNSUPPORTED");
    expect(localFolderOf("sftp://host/store")).to.equal(undefined);
    expect(thrownCode(() => localFolderOf("file://otherhost/store"))).to.equal("USAGE");
  });
});
