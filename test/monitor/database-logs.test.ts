/** A log of SQLite that is gone or emptied: put away by SQLite, or lost with what it held. */
import { execFileSync } from "node:child_process";
import { copyFileSync, rmSync, truncateSync, utimesSync } from "node:fs";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { makeCrashedDatabase, makeLiveDatabase, query } from "../support/sqlite-database.js";
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

describe("the rollback journal of a database that stands", () => {
  /** The second journals no first page before the end: nothing grows, and the pages are changed where they are. */
  const CHANGES = [
    ["rows come and change", "UPDATE t SET x = x || 'new' || hex(zeroblob(300)); INSERT INTO t(x) SELECT x FROM t;"],
    ["rows change where they are", "UPDATE t SET x = 'new' || substr(x, 4);"],
  ] as const;

  for (const [title, change] of CHANGES) {
    it(`is lost when it goes before it was used, and put away when it was, or is over (${title})`, async function () {
      requirePrograms(this, "sqlite3");
      await using bench = await WatchBench.create();
      const names = ["taken", "emptied", "rolled-back", "committed"];
      for (const name of names) makeCrashedDatabase(bench.folder.at(`${name}.db`), change, bench.state.at(name));
      await bench.protect({ mass: { files: 1000, share: 1 } });
      await bench.quiet();
      bench.clear();
      rmSync(bench.folder.at("taken.db-journal"));
      truncateSync(bench.folder.at("emptied.db-journal"));
      const rows = query(bench.folder.at("rolled-back.db"), "SELECT count(*), min(substr(x, 1, 3)) FROM t;");
      expect(rows).to.equal("400|old");
      copyFileSync(bench.state.at("committed"), bench.folder.at("committed.db"));
      rmSync(bench.folder.at("committed.db-journal"));
      const journals = (event: "file.lost" | "file.removed"): readonly string[] =>
        [...new Set(bench.paths(event).filter((path) => path.endsWith("-journal")))].sort();
      await bench.until("the verdicts", () => journals("file.lost").length + journals("file.removed").length === 4);
      expect(journals("file.lost")).to.deep.equal(["emptied.db-journal", "taken.db-journal"]);
      expect(journals("file.removed")).to.deep.equal(["committed.db-journal", "rolled-back.db-journal"]);
    });
  }
});
