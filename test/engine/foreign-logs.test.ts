/**
 * Logs of SQLite that stand where a database is restored: of another state they are renamed beside it before it comes, and
 * only then; whatever keeps the database from coming gives them their names back.
 */
import { expect } from "chai";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import type { BytePath } from "../../src/base/paths.js";
import { SQLITE_LOG_HEADER_BYTES } from "../../src/base/sqlite-files.js";
import type { Repository } from "../../src/engine/repository.js";
import type { RestoreRequest } from "../../src/engine/restore.js";
import { EngineRig, storeFiles } from "../support/engine-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { backUpFolder, restoreLatest } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The header of a log that SQLite would replay. */
function logHeader(): Buffer {
  const header = Buffer.alloc(SQLITE_LOG_HEADER_BYTES, 1);
  header.writeUInt32BE(0x377f0682, 0);
  return header;
}

describe("a log that stands where a database is restored", () => {
  const folder = useTempFolder("foreign-logs");
  const data = (): BytePath => folder().bytes("data");
  const place = (name: string): string => folder().at("data", name);
  const names = (): string[] => readdirSync(folder().at("data")).sort();

  /** A database is backed up, then goes on, with a log of the later state beside it. */
  async function goneOn(): Promise<Repository> {
    const rig = await EngineRig.create(folder());
    await folder().write("data/app.db", "the older state");
    const repository = await rig.open();
    await backUpFolder(repository, data());
    writeFileSync(place("app.db"), "the later state");
    writeFileSync(place("app.db-wal"), logHeader());
    return repository;
  }

  async function restored(repository: Repository, options: Partial<RestoreRequest> = {}): Promise<readonly string[]> {
    return (await restoreLatest(repository, undefined, options)).warnings;
  }

  it("is renamed beside it, with its bytes, and told", async () => {
    await using repository = await goneOn();
    const warnings = await restored(repository);
    expect(readFileSync(place("app.db"), "utf8")).to.equal("the older state");
    const [, kept = ""] = names();
    expect(names()).to.deep.equal(["app.db", kept]);
    expect(kept).to.match(/^app\.db-wal\.kept-[0-9a-f]{8}$/);
    expect(readFileSync(place(kept)).equals(logHeader())).to.equal(true);
    expect(warnings.join()).to.contain(`it was renamed to ${kept}`);
  });

  it("goes from the place of a database that is gone, too", async () => {
    await using repository = await goneOn();
    rmSync(place("app.db"));
    await restored(repository);
    expect(names()[1]).to.match(/^app\.db-wal\.kept-/);
  });

  it("stays when the database stays: told to overwrite nothing, or its content is that already", async () => {
    await using repository = await goneOn();
    expect(await restored(repository, { overwrite: "never" })).to.deep.equal([]);
    expect(names()).to.deep.equal(["app.db", "app.db-wal"]);
    writeFileSync(place("app.db"), "the older state");
    expect(await restored(repository)).to.deep.equal([]);
    expect(names()).to.deep.equal(["app.db", "app.db-wal"]);
  });

  it("stays in a dry run, which says what would become of it", async () => {
    await using repository = await goneOn();
    expect((await restored(repository, { dryRun: true })).join()).to.contain("it would be renamed");
    expect(names()).to.deep.equal(["app.db", "app.db-wal"]);
  });

  it("stays when SQLite would not replay it, or it is no file", async () => {
    await using repository = await goneOn();
    writeFileSync(place("app.db-wal"), Buffer.alloc(100)); // reset
    mkdirSync(place("app.db-journal"));
    expect(await restored(repository)).to.deep.equal([]);
    expect(names()).to.deep.equal(["app.db", "app.db-journal", "app.db-wal"]);
  });

  it("that comes with the database is part of it", async () => {
    const rig = await EngineRig.create(folder());
    await folder().write("data/app.db", "a state");
    await folder().write("data/app.db-wal", logHeader());
    await using repository = await rig.open();
    await backUpFolder(repository, data());
    writeFileSync(place("app.db"), "another");
    expect(await restored(repository)).to.deep.equal([]);
    expect(names()).to.deep.equal(["app.db", "app.db-wal"]);
  });

  it("gets its name back when the database cannot be brought", async () => {
    await using repository = await goneOn();
    await repository.seal(new AbortController().signal);
    for (const pack of await storeFiles(folder().at("store"), "packs/d")) rmSync(pack);
    const report = await restoreLatest(repository, undefined);
    expect(report.failedCount).to.equal(1);
    expect(names()).to.deep.equal(["app.db", "app.db-wal"]);
    expect(readFileSync(place("app.db"), "utf8")).to.equal("the later state");
  });

  it("that cannot be renamed is told", async function () {
    requireRoot(this);
    requirePrograms(this, "chattr");
    await using repository = await goneOn();
    execFileSync("chattr", ["+i", place("app.db-wal")]);
    try {
      expect((await restored(repository)).join()).to.contain("it could not be renamed");
    } finally {
      execFileSync("chattr", ["-i", place("app.db-wal")]);
    }
  });
});
