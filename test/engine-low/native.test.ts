/** System calls through koffi: each does what the system's own tools see, and fails with the system's error name. */
import { closeSync, openSync, statSync, symlinkSync, lstatSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { expect } from "chai";
import { type NativeCalls, nativeCalls } from "../../src/base/native.js";
import { runProgram } from "../../src/base/spawn.js";
import { NEVER, thrownCode } from "../support/engine-keys.js";
import { requirePrograms, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("native calls", () => {
  const folder = useTempFolder("native");
  let native: NativeCalls;

  before(function () {
    const calls = nativeCalls();
    if (calls === undefined) skip(this, "koffi is not installed");
    native = calls;
  });

  it("set, list, read and remove attributes of a path and of an open file", async () => {
    const path = Buffer.from(await folder().write("a", "x"));
    const fd = openSync(path, "r");
    for (const target of [{ path }, { fd }]) {
      native.setXattr(target, "user.one", Buffer.from([0, 255, 0]));
      native.setXattr(target, "user.empty", Buffer.alloc(0));
      expect(native.listXattrs(target)).to.include.members(["user.one", "user.empty"]);
      expect(native.getXattr(target, "user.one")).to.deep.equal(Buffer.from([0, 255, 0]));
      expect(native.getXattr(target, "user.empty")).to.deep.equal(Buffer.alloc(0));
      expect(native.getXattr(target, "user.none")).to.equal(undefined);
      native.removeXattr(target, "user.one");
      native.removeXattr(target, "user.empty");
      expect(native.listXattrs(target)).to.not.include("user.one");
      expect(thrownCode(() => native.removeXattr(target, "user.one"))).to.equal("ENODATA");
    }
    closeSync(fd);
  });

  it("read an attribute as another program wrote it", async function () {
    requirePrograms(this, "setfattr");
    const path = await folder().write("a", "x");
    await runProgram(["setfattr", "-n", "user.by", "-v", "setfattr", path], { timeoutMs: 5000, signal: NEVER });
    expect(native.getXattr({ path: Buffer.from(path) }, "user.by")?.toString()).to.equal("setfattr");
  });

  it("work on names of any bytes and say what is missing", () => {
    const path = Buffer.concat([Buffer.from(folder().path), Buffer.from("/\xff\xfe", "latin1")]);
    expect(thrownCode(() => native.listXattrs({ path }))).to.equal("ENOENT");
    closeSync(openSync(path, "w"));
    native.setXattr({ path }, "user.a", Buffer.from("1"));
    expect(native.listXattrs({ path })).to.include("user.a");
  });

  it("set times to the nanosecond, before 1970 too, and of a link itself", async () => {
    const path = await folder().write("a", "x");
    symlinkSync("a", folder().at("link"));
    const times = [1_700_000_000_123_456_789n, -1n, 0n];
    for (const time of times) {
      native.setTimes({ path: Buffer.from(folder().at("link")) }, time, time);
      expect(lstatSync(folder().at("link"), { bigint: true }).mtimeNs).to.equal(time);
      const fd = openSync(path, "r");
      native.setTimes({ fd }, 5n, time);
      closeSync(fd);
      expect(statSync(path, { bigint: true }).mtimeNs).to.equal(time);
      expect(statSync(path, { bigint: true }).mtimeNs).to.equal(time);
    }
  });

  it("lock a file against others, shared or alone, until it is unlocked or closed", async () => {
    const path = await folder().write("lock", "");
    const [one, two] = [openSync(path, "r"), openSync(path, "r")];
    expect(native.lockFile(one, "exclusive")).to.equal(true);
    expect(native.lockFile(two, "exclusive")).to.equal(false);
    expect(native.lockFile(two, "shared")).to.equal(false);
    native.unlockFile(one);
    expect(native.lockFile(two, "shared")).to.equal(true);
    expect(native.lockFile(one, "shared")).to.equal(true);
    expect(native.lockFile(one, "exclusive")).to.equal(false);
    closeSync(two);
    expect(native.lockFile(one, "exclusive")).to.equal(true);
    closeSync(one);
    expect(thrownCode(() => native.lockFile(one, "exclusive"))).to.equal("EBADF");
  });

  it("tell who is at the other end of a socket", async () => {
    const path = folder().at("s");
    const accepted = new Promise<Socket>((resolve) => {
      const server = createServer((socket) => {
        server.close();
        resolve(socket);
      }).listen(path);
    });
    const { connect } = await import("node:net");
    const client = connect(path);
    const socket = await accepted;
    const handle: unknown = Reflect.get(socket, "_handle");
    const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
    const peer = native.peerCredentials(Number(fd));
    expect(peer).to.deep.equal({ pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
    client.destroy();
    socket.destroy();
  });

  it("send a datagram to a socket path or an abstract name", async function () {
    requirePrograms(this, "python3");
    const script = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0"))
print("bound", flush=True)
print(s.recv(1000).decode())`;
    for (const address of [folder().at("notify"), `@holdfast-test-${process.pid}`]) {
      const receiver = runProgram(["python3", "-c", script, address], { timeoutMs: 10_000, signal: NEVER });
      let sent = false;
      for (let attempt = 0; !sent && attempt < 500; attempt += 1) {
        await new Promise((resolve) => setTimeout(resolve, 10)); // until the other program has bound its socket
        sent = thrownCode(() => native.sendDatagram(address, "READY=1\nSTATUS=grüß")) === "none";
      }
      expect((await receiver).stdout.toString()).to.equal("bound\nREADY=1\nSTATUS=grüß\n");
    }
    expect(thrownCode(() => native.sendDatagram("/no/such/socket", "x"))).to.equal("ENOENT");
    expect(thrownCode(() => native.sendDatagram(`/${"x".repeat(200)}`, "x"))).to.equal("ENAMETOOLONG");
  });
});
