/** Databases out of their write-ahead logs, made and checked by the SQLite program. */
import { readFile, rm, truncate, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import { systemClock } from "../../src/base/clock.js";
import { pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { ProcessFiles } from "../../src/recovery/proc.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { readSqliteLog } from "../../src/recovery/strategies/sqlite-log.js";
import { sqliteWalStrategy } from "../../src/recovery/strategies/sqlite-wal.js";
import { spawnHolder } from "../support/file-holder.js";
import { MemoryVersions, NEVER, bytesOf, lostFile, nodeAt } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { makeLiveDatabase, query, setLogAside } from "../support/sqlite-database.js";
import { useTempFolder } from "../support/temp-folder.js";

const TABLE = "create table t(id integer primary key, text);";
const rows = (first: number, count: number): string =>
  `with recursive n(i) as (values(${first}) union all select i+1 from n where i < ${first + count - 1}) ` +
  `insert into t select i, hex(randomblob(60)) from n;`;
const SUM = "select count(*), max(id) from t; pragma integrity_check;";

describe("the write-ahead log of SQLite", () => {
  const folder = useTempFolder("sqlite-wal");
  const notes: string[] = [];

  before(function () {
    requirePrograms(this, "sqlite3");
  });

  const search = async (lost: LostFile, versions = new MemoryVersions()): Promise<readonly Candidate[]> => {
    notes.length = 0;
    const around = { parameters: {}, scratchDir: folder().path, note: (text: string) => void notes.push(text) };
    const candidates: Candidate[] = [];
    for await (const candidate of sqliteWalStrategy(versions, new ProcessFiles(systemClock)).find(lost, around, NEVER))
      candidates.push(candidate);
    return candidates;
  };
  const recovered = async (candidate: Candidate | undefined): Promise<string> => {
    if (candidate === undefined) throw new Error("nothing was found");
    const file = folder().at("recovered.db");
    await writeFile(file, await bytesOf(candidate.open(NEVER)));
    return query(file, SUM);
  };

  it("gives the database as of its last commit, over the last good stored one", async () => {
    await folder().folder("data");
    const file = folder().at("data/a.db");
    makeLiveDatabase(file, TABLE + rows(1, 500), `${rows(501, 100)}update t set text='new' where id=3;`);
    const path = pathFromText(file);
    const versions = new MemoryVersions();
    versions.keep(path);
    versions.keep(pathFromText(`${file}-wal`));
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    const [candidate, ...others] = await search(lost, versions);
    expect(others).to.deep.equal([]);
    expect(await recovered(candidate)).to.equal("600|600\nok");
    expect(query(folder().at("recovered.db"), "select text from t where id=3")).to.equal("new");
    expect(candidate?.notes.join()).to.contain("2 committed transactions, checksums right");
  });

  it("gives a young database from the log alone, without any backup", async () => {
    const file = folder().at("young.db");
    makeLiveDatabase(file, "", TABLE + rows(1, 200));
    await rm(file);
    const [candidate] = await search(lostFile(pathFromText(file)));
    expect(await recovered(candidate)).to.equal("200|200\nok");
  });

  it("offers nothing when pages are missing, or the stored database is not the last good one", async () => {
    const file = folder().at("old.db");
    makeLiveDatabase(file, TABLE + rows(1, 500), rows(501, 5));
    const path = pathFromText(file);
    const versions = new MemoryVersions();
    versions.keep(path);
    const lost = lostFile(path, { ...lastGoodOf(nodeAt(path)), sha256: "0".repeat(64) });
    await rm(file);
    expect(await search(lost, versions)).to.deep.equal([]);
    expect(notes.join()).to.match(/\d+ of \d+ pages are missing/);
  });

  it("is not laid over a database from before it began anew", async () => {
    const file = folder().at("anew.db");
    makeLiveDatabase(file, TABLE + rows(1, 500), rows(501, 5));
    const path = pathFromText(file);
    const versions = new MemoryVersions();
    versions.keep(path);
    versions.keep(pathFromText(`${file}-wal`));
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    // What was in the log is written back, the log begins anew, and nobody looks before the database is lost.
    makeLiveDatabase(file, TABLE + rows(1, 700), rows(701, 5));
    await rm(file);
    expect(await search(lost, versions)).to.deep.equal([]);
    expect(notes.join()).to.contain("no stored database that has them is known to be the one it goes with");
  });

  it("takes the transactions up to where the log is torn, and none of a transaction that was not committed", async () => {
    const file = folder().at("torn.db");
    makeLiveDatabase(file, "", `${TABLE}${rows(1, 50)}${rows(51, 300)}`);
    const whole = await readFile(`${file}-wal`);
    await truncate(`${file}-wal`, whole.length - 100);
    await rm(file);
    const [candidate] = await search(lostFile(pathFromText(file)));
    expect(await recovered(candidate)).to.equal("50|50\nok");
  });

  it("is found in the hands of a process when it was deleted, too", async () => {
    const file = folder().at("held.db");
    makeLiveDatabase(file, "", TABLE + rows(1, 20));
    const holder = await spawnHolder(`${file}-wal`, "r");
    await rm(file);
    await rm(`${file}-wal`);
    const [candidate] = await search(lostFile(pathFromText(file)));
    expect(await recovered(candidate)).to.equal("20|20\nok");
    await holder.end();
  });

  it("is read as SQLite reads it, and hostile bytes end it", async () => {
    const file = folder().at("fuzz.db");
    makeLiveDatabase(file, "", `${TABLE}${rows(1, 30)}${rows(31, 30)}`);
    const bytes = await readFile(`${file}-wal`);
    setLogAside(file);
    const good = readSqliteLog(bytes);
    expect(good?.commits).to.equal(3);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = Buffer.from(bytes);
        changed[at] = (changed[at] ?? 0) ^ flip;
        const log = readSqliteLog(changed);
        // A changed frame ends the log before it: never more is read than what checks out.
        expect(log?.commits ?? 0).to.be.at.most(3);
        if (at >= 32 && log !== undefined) expect(Math.max(...log.pages.values())).to.be.lessThan(bytes.length);
      }),
      { numRuns: 200 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 5000 }), (noise) => void readSqliteLog(Buffer.from(noise))));
  });
});
