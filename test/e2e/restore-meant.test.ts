/** What a person has a restore do is meant: a daemon beside it, or after it, neither undoes it nor calls it a loss. */
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { Sandbox, until } from "../support/program.js";
import { requirePrograms } from "../support/requirements.js";
import { makeLiveDatabase, query } from "../support/sqlite-database.js";

/** Longer than a loss or damage takes to be healed by default, ms. */
const HEALED_BY_MS = 2000;

describe("a restore to the original places", () => {
  it("removes and empties what the backup has not, and it stays so, with and without a daemon", async () => {
    await using sandbox = await Sandbox.create();
    const file = (name: string): string => `${sandbox.data}/${name}`;
    for (let index = 0; index < 20; index += 1) writeFileSync(file(`stays-${String(index)}`), "x");
    writeFileSync(file("grown.txt"), "");
    const daemon = await sandbox.start();
    await sandbox.json("create", "--type", "full");
    const change = async (): Promise<void> => {
      writeFileSync(file("later.txt"), "later");
      writeFileSync(file("grown.txt"), "grown");
      await until("both are stored", 10_000, async () => {
        const { pending_changes: pending } = (await status(sandbox)).sources[0] ?? { pending_changes: 1 };
        return (
          pending === 0 &&
          (await sandbox.run("versions", file("later.txt"))).stdout.split("\n")[1]?.includes("stored") === true
        );
      });
    };
    const restored = async (): Promise<void> => {
      const { exitCode, stderr } = await sandbox.run("restore", "--backup-id", "latest", "--delete");
      expect(exitCode, stderr).to.equal(0);
    };
    const isAsRestored = async (): Promise<void> => {
      await delay(HEALED_BY_MS);
      expect(existsSync(file("later.txt"))).to.equal(false);
      expect(readFileSync(file("grown.txt"), "utf8")).to.equal("");
      expect(await sandbox.incidents()).to.deep.equal([]);
    };
    await change();
    await restored();
    await isAsRestored();
    await change();
    await daemon.end("SIGTERM");
    await restored();
    await sandbox.start();
    await isAsRestored();
  });

  it("takes a newer log from an older database, which it would ruin", async function () {
    requirePrograms(this, "sqlite3");
    await using sandbox = await Sandbox.create();
    const file = `${sandbox.data}/shop.db`;
    const rows = (table: string): string =>
      `create table ${table}(y); insert into ${table} select hex(randomblob(3000)) from generate_series(1,20);`;
    makeLiveDatabase(file, rows("one"), "");
    expect((await sandbox.run("init")).exitCode).to.equal(0);
    await sandbox.json("create", "--type", "full");
    makeLiveDatabase(file, rows("one") + rows("two"), rows("three"));
    const { exitCode, stderr } = await sandbox.run("restore", "--backup-id", "latest", "--files", file);
    expect(exitCode, stderr).to.equal(0);
    expect(stderr).to.match(/shop\.db-wal: written for another state .* renamed to shop\.db-wal\.kept-/);
    expect(query(file, "select count(*) from one; pragma integrity_check;")).to.equal("20\nok");
    expect(readdirSync(sandbox.data).filter((name) => name.includes("-wal.kept-"))).to.have.length(1);
    // A database that is as it should be keeps its log.
    makeLiveDatabase(`${file}.2`, rows("one"), rows("two"));
    await sandbox.json("create", "--type", "full");
    await sandbox.run("restore", "--backup-id", "latest", "--files", `${file}.2`);
    expect(query(`${file}.2`, "select count(*) from two; pragma integrity_check;")).to.equal("20\nok");
  });
});

interface Status {
  readonly sources: readonly { readonly pending_changes: number }[];
}

async function status(sandbox: Sandbox): Promise<Status> {
  return await sandbox.json<Status>("status");
}
