/** A local index that proves damaged while the daemon runs: it mends itself, and nothing is lost. */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readdirSync, writeSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { Sandbox, until, versionsOf } from "../support/program.js";

const FILES = 500;

describe("a daemon whose local index proves damaged", () => {
  it("makes it again without a restart by others, and goes on protecting", async () => {
    await using sandbox = await Sandbox.create();
    const [file, other] = [join(sandbox.data, "file"), join(sandbox.data, "other")];
    // Enough that not all of the index is in memory once it is open.
    for (let index = 0; index < FILES; index += 1) await writeFile(join(sandbox.data, `f${String(index)}`), "");
    await writeFile(other, "other");
    await writeFile(file, "one");
    await (await sandbox.start()).end("SIGTERM");
    const daemon = await sandbox.start(); // opening has moved what was written into tables
    spoilTables(join(sandbox.state, "index"));
    await writeFile(file, "two");
    await until("the newest content is stored", 20_000, async () => {
      const versions = await sandbox.run("versions", file, "--json");
      return versions.exitCode === 0 && versionsOf(versions).some(({ sha256 }) => sha256 === digestOf("two"));
    });
    expect(daemon.exitCode, "it is the same process").to.equal(undefined);
    expect(daemon.output).to.contain("index.damaged");
    const versions = versionsOf(await sandbox.run("versions", file, "--json"));
    expect(versions.map(({ sha256 }) => sha256)).to.deep.equal([digestOf("two"), digestOf("one")]);
    await rm(other);
    await until("a lost file is back", 10_000, async () => {
      return (await readFile(other, "utf8").catch(() => undefined)) === "other";
    });
    expect(await daemon.end("SIGTERM")).to.equal(0);
  });
});

/** Changes the values in all tables of an index in place, as a failing disk would; their ends are left, so that they open. */
function spoilTables(folder: string): void {
  const tables = readdirSync(folder).filter((name) => name.endsWith(".ldb"));
  expect(tables).to.not.deep.equal([]);
  for (const name of tables) {
    const fd = openSync(join(folder, name), "r+");
    try {
      const sizeBytes = fstatSync(fd).size;
      for (let at = 64; at < sizeBytes * 0.8; at += 64) writeSync(fd, Buffer.from([0xa5, 0x5a]), 0, 2, at);
    } finally {
      closeSync(fd);
    }
  }
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
