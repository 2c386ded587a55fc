/** SQLite databases of a time, with what was committed by then; a real program writes, and reads what came back. */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import { pathFromText } from "../../src/base/paths.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { makeCrashedDatabase, query } from "../support/sqlite-database.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const ROWS = "select count(*), max(id) from t; pragma integrity_check;";
const CHANGED = "select count(*) from t where pad = hex(zeroblob(200));";
const TABLE = "create table t(id integer primary key, pad);";
const rowsFrom = (from: number, to: number): string =>
  `with recursive n(i) as (select ${String(from)} union all select i + 1 from n where i < ${String(to)}) insert into t select i, hex(randomblob(200)) from n;`;
const wholeUpTo = (row: number): string => `${String(row)}|${String(row)}\nok`;

describe("an SQLite database of a time", () => {
  const folder = useTempFolder("database-at");

  before(function () {
    requirePrograms(this, "sqlite3");
  });

  it("has what was committed by then, although it stood only in the log, and the live log is kept beside", async () => {
    await using live = await LiveDatabase.open(folder());
    await live.insert(3);
    const atMs = live.store("database", "log");
    await live.insert(2);
    live.store("log"); // the database itself is as it was
    await live.end();
    const result = await live.rig.healer.recover("data", live.path, { atMs }, NEVER);
    expect(result.outcome, result.message).to.equal("healed");
    expect(query(live.file, ROWS)).to.equal(wholeUpTo(3));
    expect(readdirSync(folder().at("data")).filter((name) => name.includes("-wal.kept-"))).to.have.length(1);
  });

  it("is made whole at another place while the program works on", async () => {
    await using live = await LiveDatabase.open(folder());
    await live.insert(3);
    const atMs = live.store("database", "log");
    await live.insert(4);
    const to = folder().at("then.db");
    const result = await live.rig.healer.recover("data", live.path, { atMs, to: pathFromText(to) }, NEVER);
    expect(result.outcome, result.message).to.equal("healed");
    expect(existsSync(`${to}-wal`)).to.equal(false);
    expect(query(to, ROWS)).to.equal(wholeUpTo(3));
    await live.insert(1);
    expect(query(live.file, ROWS)).to.equal(wholeUpTo(8));
  });

  it("has the commits of the last log before that began anew, when the database was not stored since", async () => {
    await using live = await LiveDatabase.open(folder());
    await live.insert(3);
    live.store("database", "log");
    await live.insert(2);
    live.store("log");
    await live.say("pragma wal_checkpoint(restart);");
    await live.insert(1);
    const atMs = live.store("log");
    expect(await live.rowsAt(atMs)).to.equal(wholeUpTo(5));
    await live.say("pragma wal_checkpoint(truncate);");
    expect(await live.rowsAt(live.store("log")), "emptied, and the database not stored").to.equal(wholeUpTo(5));
    expect(await live.rowsAt(live.store("database"))).to.equal(wholeUpTo(6));
  });

  it("has what was committed before the transaction amid which it was stored, when the program is killed in that", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const file = folder().at("data/killed.db");
    const stamps: number[] = [];
    const keep = (...suffixes: string[]): void => {
      stamps.push(1_000_000 + stamps.length * 1000);
      for (const suffix of suffixes) rig.versions.keep(pathFromText(file + suffix), stamps.at(-1));
    };
    execFileSync("sqlite3", [file], { input: `${TABLE}${rowsFrom(1, 400)}` });
    keep("");
    const program = spawn("sqlite3", ["-bail", file]);
    const say = async (sql: string): Promise<void> => {
      program.stdin.write(`${sql}\n.print done\n`);
      await once(program.stdout, "data");
    };
    // A small cache is written to the database before the end of the transaction.
    await say(
      "pragma cache_size = 2; pragma cache_spill = 1; begin; update t set pad = hex(zeroblob(200)) where id < 200;",
    );
    keep("", "-journal");
    await say("update t set pad = hex(zeroblob(200)) where id > 199; insert into t select id + 400, pad from t;");
    keep("");
    keep("-journal");
    program.kill("SIGKILL");
    await once(program, "exit");
    const broken = folder().at("broken.db");
    copyFileSync(file, broken);
    expect(query(broken, ROWS), "without its journal").to.not.equal(wholeUpTo(400));
    for (const [index, atMs] of stamps.entries()) {
      const to = folder().at(`then-${String(index)}.db`);
      const result = await rig.healer.recover("data", pathFromText(file), { atMs, to: pathFromText(to) }, NEVER);
      expect(result.outcome, result.message).to.equal("healed");
      expect([query(to, ROWS), query(to, CHANGED)], `stored at ${String(atMs)}`).to.deep.equal([wholeUpTo(400), "0"]);
    }
    const inPlace = await rig.healer.recover("data", pathFromText(file), { atMs: stamps.at(-1) ?? 0 }, NEVER);
    expect(inPlace.outcome, inPlace.message).to.equal("healed");
    expect(existsSync(`${file}-journal`), "it would undo what nobody did").to.equal(false);
    expect([query(file, ROWS), query(file, CHANGED)]).to.deep.equal([wholeUpTo(400), "0"]);
  });

  it("is what was committed when it was stored after the end of a transaction, and its journal before", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const file = folder().at("data/committed.db");
    const committed = folder().at("after.db");
    makeCrashedDatabase(file, "update t set x = 'new' || x;", committed);
    rig.versions.keep(pathFromText(`${file}-journal`), 1_000_000);
    copyFileSync(committed, file);
    rig.versions.keep(pathFromText(file), 1_001_000);
    const to = folder().at("then.db");
    const result = await rig.healer.recover(
      "data",
      pathFromText(file),
      { atMs: 1_001_000, to: pathFromText(to) },
      NEVER,
    );
    expect(result.outcome, result.message).to.equal("healed");
    const state = query(to, "select count(*) from t where x like 'new%'; pragma integrity_check;");
    expect(state).to.be.oneOf(["400\nok", "0\nok"]);
  });

  it("is no mixture when the page that counts came into the journal after that was stored last", async () => {
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    const file = folder().at("data/late.db");
    const work = folder().at("work.db");
    const script = [
      TABLE,
      "with recursive n(i) as (select 1 union all select i + 1 from n where i < 400) insert into t select i, 'old' || hex(zeroblob(150)) from n;",
      ...["pragma cache_size = 2;", "pragma cache_spill = 1;", "begin;"],
      "update t set pad = 'new' || substr(pad, 4) where id < 200;",
      `.system cp '${work}-journal' '${file}-journal'`,
      "update t set pad = 'new' || substr(pad, 4) where id > 199;",
      ...["commit;", `.system cp '${work}' '${file}'`],
    ];
    execFileSync("sqlite3", ["-bail", work], { input: `${script.join("\n")}\n` });
    rig.versions.keep(pathFromText(`${file}-journal`), 1_000_000);
    rig.versions.keep(pathFromText(file), 1_001_000);
    const to = pathFromText(folder().at("then.db"));
    const result = await rig.healer.recover("data", pathFromText(file), { atMs: 1_001_000, to }, NEVER);
    expect(result.outcome, result.message).to.equal("healed");
    const state = query(
      folder().at("then.db"),
      "select count(*) from t where pad like 'new%'; pragma integrity_check;",
    );
    expect(state).to.equal("400\nok");
  });

  it("is never a mixture, in whatever order database and log were stored", async () => {
    const step = fc.constantFrom("insert", "passive", "restart", "truncate", "both", "database", "log");
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
        await using live = await LiveDatabase.open(folder().below("mixture"));
        const stored: { readonly atMs: number; readonly least: number; readonly most: number }[] = [];
        await live.insert(1);
        let least = 1;
        live.store("database", "log");
        for (const each of steps) {
          if (each === "insert") await live.insert(1);
          else if (each === "both") {
            const atMs = live.store("database", "log");
            least = live.rows;
            stored.push({ atMs, least, most: live.rows });
          } else if (each === "database" || each === "log")
            stored.push({ atMs: live.store(each), least, most: live.rows });
          else await live.say(`pragma wal_checkpoint(${each});`);
        }
        for (const { atMs, least: from, most: to } of stored) {
          const allowed = Array.from({ length: to - from + 1 }, (_, index) => wholeUpTo(from + index));
          expect(await live.rowsAt(atMs), `${steps.join()} as of ${String(atMs)}`).to.be.oneOf(allowed);
        }
        await live.end();
        await rm(folder().at("mixture"), { recursive: true });
      }),
      { numRuns: process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 200 : 8 },
    );
  });
});

/** A database that the SQLite program holds open and writes to; each state that is stored has a time of its own. */
class LiveDatabase implements AsyncDisposable {
  readonly rig: RecoveryRig;
  readonly file: string;
  readonly path;
  rows = 0;
  readonly #folder: TempFolder;
  readonly #program: ChildProcessWithoutNullStreams;
  #printed = "";
  #timeMs = 1_000_000;

  private constructor(folder: TempFolder, rig: RecoveryRig) {
    this.#folder = folder;
    this.rig = rig;
    this.file = folder.at("data/shop.db");
    this.path = pathFromText(this.file);
    this.#program = spawn("sqlite3", ["-bail", this.file]);
    this.#program.stdout.on("data", (part: Buffer) => (this.#printed += part.toString()));
  }

  static async open(folder: TempFolder): Promise<LiveDatabase> {
    const rig = await RecoveryRig.create(folder);
    await rig.start();
    const live = new LiveDatabase(folder, rig);
    await live.say("pragma journal_mode = wal; pragma wal_autocheckpoint = 0;");
    await live.say("create table t(id integer primary key, pad); create index i on t(pad);");
    return live;
  }

  /** Rows of some pages each, so that states differ all over the file. */
  async insert(count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) {
      this.rows += 1;
      await this.say(`insert into t values(${String(this.rows)}, hex(randomblob(900)));`);
    }
  }

  async say(sql: string): Promise<void> {
    this.#printed = "";
    this.#program.stdin.write(`${sql}\n.print done\n`);
    while (!this.#printed.includes("done\n")) await once(this.#program.stdout, "data");
  }

  /** Stores the files as they are, as one commit; gives its time. */
  store(...files: readonly ("database" | "log")[]): number {
    this.#timeMs += 1000;
    for (const each of files) {
      const path = pathFromText(each === "log" ? `${this.file}-wal` : this.file);
      this.rig.versions.keep(path, this.#timeMs);
    }
    return this.#timeMs;
  }

  /** What the program reads of the database as of a time. */
  async rowsAt(atMs: number): Promise<string> {
    const to = this.#folder.at("then.db");
    await rm(to, { force: true });
    const result = await this.rig.healer.recover("data", this.path, { atMs, to: pathFromText(to) }, NEVER);
    return result.outcome === "healed" ? query(to, ROWS) : result.message;
  }

  async end(): Promise<void> {
    if (this.#program.exitCode !== null || this.#program.signalCode !== null) return;
    // Killed, so that its log stays.
    this.#program.kill("SIGKILL");
    await once(this.#program, "exit");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    await this.rig[Symbol.asyncDispose]();
  }
}
