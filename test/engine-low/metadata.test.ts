/** Metadata: read from a file, given back to another, in the order that works; what cannot be given back is listed. */
import { closeSync, lstatSync, mkdirSync, openSync, statSync, symlinkSync } from "node:fs";
import { expect } from "chai";
import { openAnchored } from "../../src/base/anchored.js";
import { nativeCalls } from "../../src/base/native.js";
import { runProgram } from "../../src/base/spawn.js";
import { applyToDescriptor, applyToName, type MetadataGap, nodeFromStat } from "../../src/engine/metadata.js";
import type { FileNode } from "../../src/engine/types.js";
import { NEVER } from "../support/engine-keys.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("metadata", () => {
  const folder = useTempFolder("metadata");

  function nodeAt(name: string): FileNode {
    const path = folder().at(name);
    return nodeFromStat(lstatSync(path, { bigint: true }), { path: Buffer.from(path) });
  }

  function applyTo(name: string, node: FileNode): MetadataGap[] {
    const fd = openSync(folder().at(name), "r");
    try {
      return applyToDescriptor(fd, node);
    } finally {
      closeSync(fd);
    }
  }

  it("comes back on another file: owner, mode with setuid, exact times, attributes", async function () {
    requireRoot(this);
    const from = await folder().write("from", "x", 0o4751);
    const native = nativeCalls();
    native?.setXattr({ path: Buffer.from(from) }, "user.kept", Buffer.from("value"));
    const node = { ...nodeAt("from"), uid: 1234, gid: 4321 };
    const timed = { ...node, stat: { ...node.stat, mtimeNs: 1_600_000_000_987_654_321n } };
    const to = await folder().write("to", "x", 0o600);
    native?.setXattr({ path: Buffer.from(to) }, "user.surplus", Buffer.from("goes"));
    expect(applyTo("to", timed)).to.deep.equal([]);
    const stat = statSync(to, { bigint: true });
    expect([Number(stat.uid), Number(stat.gid), Number(stat.mode) & 0o7777]).to.deep.equal([1234, 4321, 0o4751]);
    if (native !== undefined) expect(stat.mtimeNs).to.equal(1_600_000_000_987_654_321n);
    if (native !== undefined) expect([...(nodeAt("to").xattrs ?? [])]).to.deep.equal([...(node.xattrs ?? [])]);
  });

  it("brings back an access list, and drops one that was inherited", async function () {
    requirePrograms(this, "setfacl", "getfacl");
    const run = async (...command: string[]) => await runProgram(command, { timeoutMs: 5000, signal: NEVER });
    const from = await folder().write("from", "x", 0o640);
    await run("setfacl", "-m", "u:1234:rw", from);
    const withList = nodeAt("from");
    const to = await folder().write("to", "x", 0o600);
    expect(applyTo("to", withList)).to.deep.equal([]);
    const listOf = async (path: string) => (await run("getfacl", "-pnc", path)).stdout.toString();
    expect(await listOf(to)).to.equal(await listOf(from));
    await folder().write("bare", "x", 0o640);
    expect(applyTo("to", nodeAt("bare"))).to.deep.equal([]);
    expect(await listOf(to)).to.not.include("1234");
  });

  it("comes back on a link itself, on a FIFO and on a folder", async function () {
    requireRoot(this);
    symlinkSync("/nowhere", folder().at("link"));
    mkdirSync(folder().at("sub"));
    await runProgram(["mkfifo", folder().at("fifo")], { timeoutMs: 5000, signal: NEVER });
    await using here = openAnchored(folder().bytes(), folder().bytes());
    for (const name of ["link", "fifo", "sub"]) {
      const node = nodeAt(name);
      const wanted = { ...node, uid: 77, gid: 78, mode: 0o751, stat: { ...node.stat, mtimeNs: 1_000_000_000n } };
      expect(name === "sub" ? applyTo("sub", wanted) : applyToName(here, name, wanted), name).to.deep.equal([]);
      const stat = lstatSync(folder().at(name), { bigint: true });
      expect([Number(stat.uid), Number(stat.gid), stat.mtimeNs]).to.deep.equal([77, 78, 1_000_000_000n]);
      if (name !== "link") expect(Number(stat.mode) & 0o7777).to.equal(0o751);
    }
  });

  it("lists what cannot be given back, and never gives setuid to a wrong owner", async function () {
    requireRoot(this);
    await folder().write("to", "x", 0o600);
    const path = folder().at("to");
    await runProgram(["chown", "65534:65534", path], { timeoutMs: 5000, signal: NEVER });
    const node = { ...nodeAt("to"), uid: 0, gid: 0, mode: 0o4755 };
    const script = `
      process.setgid(65534); process.setuid(65534);
      const { applyToDescriptor } = await import(process.argv[1]);
      const { openSync } = await import("node:fs");
      const node = JSON.parse(process.argv[3]);
      node.stat.mtimeNs = BigInt(node.stat.mtimeNs);
      console.log(JSON.stringify(applyToDescriptor(openSync(process.argv[2], "r"), node)));
    `;
    const module = new URL("../../src/engine/metadata.js", import.meta.url).href;
    const json = JSON.stringify(node, (_, value: unknown) => (typeof value === "bigint" ? String(value) : value));
    await runProgram(["chmod", "-R", "a+rX", folder().path], { timeoutMs: 5000, signal: NEVER });
    const command = [process.execPath, "--input-type=module", "-e", script, module, path, json];
    const result = await runProgram(command, { timeoutMs: 20_000, signal: NEVER });
    expect(result.stderr).to.equal("");
    const gaps = JSON.parse(result.stdout.toString()) as MetadataGap[];
    expect(gaps.map(({ what }) => what)).to.include.members(["owner", "mode"]);
    expect(statSync(path).mode & 0o7777).to.equal(0o755);
  });

  it("says of attributes that they need koffi where it is missing", async () => {
    await folder().write("to", "x");
    const script = `
      const { applyToDescriptor, nodeFromStat } = await import(process.argv[1]);
      const { openSync, fstatSync } = await import("node:fs");
      const fd = openSync(process.argv[2], "r");
      const node = nodeFromStat(fstatSync(fd, { bigint: true }), { fd });
      console.log(JSON.stringify(applyToDescriptor(fd, { ...node, xattrs: new Map([["user.a", new Uint8Array(1)]]) })));
    `;
    const module = new URL("../../src/engine/metadata.js", import.meta.url).href;
    const command = [process.execPath, "--input-type=module", "-e", script, module, folder().at("to")];
    const env = { HOLDFAST_NO_NATIVE: "1" };
    const result = await runProgram(command, { timeoutMs: 20_000, signal: NEVER, env });
    expect(result.stdout.toString().trim()).to.equal('[{"what":"xattr","errno":"UNSUPPORTED","name":"user.a"}]');
  });
});
