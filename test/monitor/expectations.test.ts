/** Files that a source says it must hold: told when they are not there or none is new enough, and when they are again. */
import { rmSync, utimesSync } from "node:fs";
import { expect } from "chai";
import type { BytePath } from "../../src/base/paths.js";
import { Expectations } from "../../src/monitor/expectations.js";
import { WatchBench } from "../support/watch-bench.js";

const ROOT = "/srv/data" as BytePath;
const OTHER = "/srv/more" as BytePath;
const HOUR_MS = 3_600_000;
const NOW_MS = 1_000_000 * HOUR_MS;

function nsAgo(ms: number): bigint {
  return BigInt(NOW_MS - ms) * 1_000_000n;
}

describe("expected files", () => {
  it("are enough or too few, counted over all roots, and nothing is said before all roots were looked at", () => {
    const expectations = new Expectations([{ match: "*.csv", filesMin: 3, ageMaxMs: undefined }], [ROOT, OTHER]);
    const look = (root: BytePath, names: readonly string[]): void => {
      const tally = expectations.newTally();
      for (const name of names) tally?.saw(`${root}/${name}` as BytePath, nsAgo(0));
      if (tally !== undefined) expectations.looked(root, tally);
    };
    look(ROOT, ["a.csv", "deep/b.csv", "c.txt"]);
    expect(expectations.unmet([ROOT, OTHER], NOW_MS)).to.equal(undefined);
    look(OTHER, []);
    expect(expectations.unmet([ROOT, OTHER], NOW_MS)).to.deep.equal([
      { match: "*.csv", detail: "2 of at least 3 files are there" },
    ]);
    look(OTHER, ["d.csv"]);
    expect(expectations.unmet([ROOT, OTHER], NOW_MS)).to.deep.equal([]);
  });

  it("are too old when the newest of them is, and one new file among old ones is enough", () => {
    const expectations = new Expectations([{ match: "dumps/*", filesMin: 1, ageMaxMs: 26 * HOUR_MS }], [ROOT]);
    const old = expectations.newTally();
    old?.saw("/srv/data/dumps/monday" as BytePath, nsAgo(30 * HOUR_MS));
    if (old !== undefined) expectations.looked(ROOT, old);
    expect(expectations.unmet([ROOT], NOW_MS)?.[0]?.detail).to.match(/^the newest file is .* old and may be /);
    old?.saw("/srv/data/dumps/tuesday" as BytePath, nsAgo(6 * HOUR_MS));
    expect(expectations.unmet([ROOT], NOW_MS)).to.deep.equal([]);
  });

  it("cost nothing where none are asked for", () => {
    expect(new Expectations([], [ROOT]).newTally()).to.equal(undefined);
  });

  it("are told once when they go or grow old, and once when they are back", async () => {
    await using bench = await WatchBench.create({ times: { fileSweepMs: 200 } });
    const missing: string[] = [];
    const back: string[] = [];
    bench.bus.on("files.missing", ({ match, detail }) => missing.push(`${match}: ${detail}`));
    bench.bus.on("files.expected", ({ match }) => back.push(match));
    const first = await bench.folder.write("dumps/one.sql", "1");
    const second = await bench.folder.write("dumps/two.sql", "2");
    await bench.protect({ expect: [{ match: "dumps/*.sql", filesMin: 2, ageMaxMs: HOUR_MS }] });
    await bench.quiet();
    expect(missing).to.deep.equal([]);
    rmSync(first);
    await bench.until("it is told", () => missing.length > 0);
    await bench.folder.write("dumps/three.sql", "3");
    await bench.until("it is back", () => back.length > 0);
    const longAgo = Date.UTC(2020, 0) / 1000;
    for (const path of [second, bench.folder.at("dumps/three.sql")]) utimesSync(path, longAgo, longAgo);
    await bench.until("it is told again", () => missing.length > 1);
    await bench.quiet(700);
    expect(missing).to.have.length(2);
    expect(missing[0]).to.equal("dumps/*.sql: 1 of at least 2 files are there");
    expect(back).to.deep.equal(["dumps/*.sql"]);
  });

  it("are named in the status while they are missing, and their return is told after a restart", async () => {
    await using bench = await WatchBench.create({ times: { fileSweepMs: 200 } });
    const told: string[] = [];
    bench.bus.on("files.missing", ({ match }) => told.push(`missing ${match}`));
    bench.bus.on("files.expected", ({ match }) => told.push(`there ${match}`));
    const settings = { expect: [{ match: "*.sql", filesMin: 1, ageMaxMs: undefined }] };
    await bench.protect(settings);
    await bench.until("it is told", () => told.length === 1);
    expect(bench.monitor.status()[0]?.unmet).to.deep.equal([
      { match: "*.sql", detail: "0 of at least 1 file is there" },
    ]);
    await bench.close();
    await bench.open();
    await bench.protect(settings);
    expect(told, "told again after a restart").to.deep.equal(["missing *.sql", "missing *.sql"]);
    await bench.close();
    await bench.folder.write("dump.sql", "1");
    await bench.open();
    await bench.protect(settings);
    expect(told.slice(2)).to.deep.equal(["there *.sql"]);
    expect(bench.monitor.status()[0]?.unmet).to.deep.equal([]);
  });

  it("are forgotten when nobody expects them any more", async () => {
    await using bench = await WatchBench.create();
    const ended: string[] = [];
    bench.bus.on("files.expected", ({ match }) => ended.push(match));
    await bench.protect({ expect: [{ match: "*.sql", filesMin: 1, ageMaxMs: undefined }] });
    await bench.close();
    await bench.open();
    await bench.protect({});
    expect(ended).to.deep.equal(["*.sql"]);
  });
});
