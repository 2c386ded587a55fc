/** A log of SQLite that is gone or emptied: put away by SQLite, or lost with what it held. */
import { execFileSync } from "node:child_process";
import { rmSync, truncateSync, utimesSync } from "node:fs";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { makeLiveDatabase, query } from "../support/sqlite-database.js";
import { requirePrograms } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

describe("the log of a database that stands", () => {
  /** A database whose last row stands in its log alone, all of it known. */
  async function live(bench: WatchBench): Promise<string> {
    const database = bench.folder.at("app.db");
    makeLiveDatabase(database, "CREATE TABLE t(x); INSERT INTO t VALUES (1);", "INSERT INTO t VALUES (2);");
    await systemClock.sleep(20, new AbortController().signal); // a tick of the file system's clock
    const nowSeconds = systemClock.nowMs() / 1000;
    utimesSync(`${database}-wal`, nowSeconds, nowSeconds);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    return database;
  }

  it("is lost when it is removed and nothing of it was written back", async function () {
    requirePrograms(this, "sqlite3");
    await using bench = await WatchBench.create();
    const database = await live(bench);
    rmSync(`${database}-wal`);
    await bench.until("the verdict", () => bench.paths("file.lost").length + bench.paths("file.removed").length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["app.db-wal"]);
  });

  it("is damaged when it is emptied and nothing of it was written back", async function () {
    requirePrograms(this, "sqlite3");
    await using bench = await WatchBench.create();
    const database = await live(bench);
    truncateSync(`${database}-wal`);
    await bench.until("the verdict", () => bench.paths("file.lost").length + bench.paths("file.changed").length > 0);
    expect(bench.paths("file.lost")).to.deep.equal(["app.db-wal"]);
  });

  it("is put away when SQLite wrote it back, or when another database stands in the place", async function () {
    requirePrograms(this, "sqlite3");
    for (const [index, end] of ["written back", "replaced"].entries()) {
      await using bench = await WatchBench.create();
      const database = await live(bench);
      if (index === 0) expect(query(database, "SELECT count(*) FROM t;"), end).to.equal("2");
      else
        execFileSync("sh", [
          "-c",
          `cp -p '${database}' '${database}.old' && rm '${database}' '${database}-wal' && mv '${database}.old' '${database}'`,
        ]);
      await bench.until("the removal", () => bench.paths("file.removed").includes("app.db-wal"));
      expect(bench.paths("file.lost"), end).to.deep.equal([]);
    }
  });
});
