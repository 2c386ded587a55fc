/** `ls`, `find`, `cat` and `diff` with the built program: nothing is mistaken for emptiness, bytes stay bytes. */
import { expect } from "chai";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Sandbox } from "../support/program.js";

const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

async function rawOutput(sandbox: Sandbox, ...args: string[]): Promise<Buffer> {
  const options = { env: sandbox.environment, encoding: "buffer", maxBuffer: 2 ** 26 } as const;
  return await new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], options, (_error, stdout) => resolve(stdout));
  });
}

describe("looking into backups on the command line", () => {
  it("tells what is missing from what is empty", async () => {
    await using sandbox = await Sandbox.create();
    await mkdir(join(sandbox.data, "folder"));
    await symlink("nowhere", join(sandbox.data, "link"));
    await sandbox.json("init");
    await sandbox.json("create");
    for (const args of [
      ["ls", "latest", join(sandbox.data, "none")],
      ["cat", "latest", join(sandbox.data, "none")],
      ["cat", "latest", join(sandbox.data, "folder")],
      ["cat", "latest", join(sandbox.data, "link")],
      ["versions", join(sandbox.data, "none")],
    ]) {
      const result = await sandbox.run(...args, "--json");
      expect([args[0], result.exitCode]).to.deep.equal([args[0], 1]);
      expect(result.json()).to.have.nested.property("error.code", "VERSION_NOT_FOUND");
    }
    const unknown = await sandbox.run("diff", "nosuch", "latest", "--json");
    expect(unknown.json()).to.have.nested.property("error.code", "BACKUP_NOT_FOUND");
    expect((await sandbox.run("ls", "latest", join(sandbox.data, "folder"))).stdout).to.include("/folder");
  });

  it("writes bytes to a pipe as they are, and names harmlessly", async () => {
    await using sandbox = await Sandbox.create();
    const bytes = randomBytes(3_000_000);
    await writeFile(join(sandbox.data, "big"), bytes);
    await writeFile(
      Buffer.concat([Buffer.from(`${sandbox.data}/`), Buffer.of(0x1b, 0x5b, 0x33, 0x31, 0x6d, 0xff)]),
      "",
    );
    await sandbox.json("init");
    await sandbox.json("create");
    expect((await rawOutput(sandbox, "cat", "latest", join(sandbox.data, "big"))).equals(bytes)).to.equal(true);
    const { stdout } = await sandbox.run("ls", "latest");
    expect(stdout).to.include("\\x1b[31m");
    expect(stdout).not.to.include("\u001b");
    const lines = (await sandbox.run("find", "*", "--json")).stdout.trim().split("\n");
    const odd = lines.map((line) => JSON.parse(line) as { path_b64?: string }).find((line) => line.path_b64);
    expect(Buffer.from(odd?.path_b64 ?? "", "base64").at(-1)).to.equal(0xff);
  });
});
