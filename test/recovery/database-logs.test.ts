/** SQLite databases and their logs, put back together or not at all; made and read by the SQLite program. */
import { readdirSync } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { expect } from "chai";
import { type BytePath, pathFromText, pathText } from "../../src/base/paths.js";
import { spawnHolder } from "../support/file-holder.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { makeLiveDatabase, query } from "../support/sqlite-database.js";
import { useTempFolder } from "../support/temp-folder.js";

const SUM = "select group_concat(x) from (select x from t order by x); pragma integrity_check;";
const TABLE = "create table t(x, pad); create index i on t(pad);";
/** A table of its own with each row, so that each state has pages that others have not. */
const row = (x: string): string =>
  `insert into t values('${x}', hex(randomblob(200))); ` +
  `create table "${x}"(a); insert into "${x}" select hex(randomblob(3000)) from t;`;
const FIRST_MS = 1_000_000;

describe("a database and its log", () => {
  const folder = useTempFolder("database-logs");

  before(function () {
    requirePrograms(this, "sqlite3");
  });

  const begun = async (settings = {}): Promise<{ rig: RecoveryRig; file: string; path: BytePath; log: BytePath }> => {
    const rig = await RecoveryRig.create(folder(), { settings });
    await rig.start();
    const file = folder().at("data/shop.db");
    return { rig, file, path: pathFromText(file), log: pathFromText(`${file}-wal`) };
  };
  const keptLogs = (): string[] => readdirSync(folder().at("data")).filter((name) => name.includes("-wal.kept-"));

  it("do not meet when the log is of a later state: it is kept beside, and the older database is whole", async () => {
    const { rig, file, path, log } = await begun();
    await using _ = rig;
    makeLiveDatabase(file, TABLE + row("one"), "");
    rig.versions.keep(path, FIRST_MS);
    makeLiveDatabase(file, TABLE + row("one") + row("two") + row("three"), row("four"));
    rig.register(path);
    rig.register(log);
    const recovered = await rig.healer.recover("data", path, { atMs: FIRST_MS + 1 }, NEVER);
    expect(recovered.outcome).to.equal("healed");
    expect(query(file, SUM)).to.equal("one\nok");
    expect(keptLogs()).to.have.length(1);
    expect(recovered.message).to.contain(`it is kept at ${folder().at("data")}/${keptLogs()[0] ?? "?"}`);
  });

  it("stay together when both stood together before, with all that was committed since", async () => {
    const { rig, file, path, log } = await begun();
    await using _ = rig;
    makeLiveDatabase(file, TABLE + row("one"), row("two"));
    rig.register(path);
    rig.register(log);
    await rm(file);
    await rig.lose(path);
    expect(query(file, SUM)).to.equal("one,two\nok");
    expect(keptLogs()).to.deep.equal([]);
  });

  it("stay together when the log is younger than the last look and has not begun anew", async () => {
    const { rig, file, path } = await begun();
    await using _ = rig;
    query(file, `pragma journal_mode=wal; ${TABLE}${row("one")}`);
    rig.register(path);
    query(file, `pragma wal_autocheckpoint=0; ${row("two")}\n.system cp '${file}-wal' '${file}.aside'`);
    await rm(file);
    await rename(`${file}.aside`, `${file}-wal`);
    await rig.lose(path);
    expect(query(file, SUM)).to.equal("one,two\nok");
  });

  it("wait for a person while a program has a log of another state open", async () => {
    const { rig, file, path, log } = await begun({ writerWaitMs: 0 });
    await using _ = rig;
    makeLiveDatabase(file, TABLE + row("one"), "");
    rig.register(path);
    makeLiveDatabase(file, TABLE + row("one") + row("two"), row("three"));
    await rm(file);
    const holder = await spawnHolder(pathText(log), "r+");
    await rig.lose(path);
    await holder.end();
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.state).to.equal("waiting");
    expect(incident?.reason).to.match(/shop\.db-wal is of another state, and process \d+ .* has it open for writing/);
    expect(readdirSync(folder().at("data"))).to.deep.equal(["shop.db-wal"]);
  });

  it("are looked for also where a name is as long as names can be", async () => {
    const { rig } = await begun();
    await using _ = rig;
    const path = await rig.protect("n".repeat(255), "no database");
    await rm(pathText(path));
    await rig.lose(path);
    expect(rig.events).to.include("incident.healed");
  });

  it("are not made one again when the database went on without the log", async () => {
    const { rig, file, path, log } = await begun();
    await using _ = rig;
    makeLiveDatabase(file, TABLE + row("one"), row("two"));
    rig.versions.keep(path, FIRST_MS);
    rig.versions.keep(log, FIRST_MS);
    query(file, row("three")); // the last connection puts the log away
    rig.register(path);
    await rig.lose(log);
    const [incident] = await rig.healer.incidents({ onlyOpen: true, limit: 1 });
    expect(incident?.state).to.equal("waiting");
    expect(incident?.reason).to.contain("has changed since this log was written");
    expect(query(file, SUM)).to.equal("one,three,two\nok");
  });
});
