/** The daemon's memory when it is damaged: the daemon starts all the same, and what was set aside is kept. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import { systemClock } from "../../src/base/clock.js";
import { closeStateDatabase, openStateDatabase, type StateDatabase } from "../../src/daemon/state-database.js";
import { useTempFolder } from "../support/temp-folder.js";

/** More than LevelDB keeps in its log. */
const RECORDS = 10_000;

describe("the state database", () => {
  const folder = useTempFolder("state-database");
  const open = async (): Promise<StateDatabase> =>
    await openStateDatabase(folder().path, systemClock, silentObserver.log);
  const filled = async (): Promise<void> => {
    const database = await open();
    const keys = Array.from({ length: RECORDS }, (_, index) => `key-${String(index)}`);
    await database.batch(keys.map((key) => ({ type: "put" as const, key, value: key.repeat(50) })));
    await closeStateDatabase(folder().path, database);
    await closeStateDatabase(folder().path, await open()); // what was in the log is in tables now
  };
  const place = (name: string): string => join(folder().at("journal"), name);
  const tables = (): string[] => readdirSync(folder().at("journal")).filter((name) => name.endsWith(".ldb"));
  const setAside = (): string[] => readdirSync(folder().path).filter((name) => name.includes(".damaged-"));

  it("counts its uses that end in the middle, and a close ends the count", async () => {
    await filled();
    expect(readdirSync(folder().at("journal"))).not.to.include("holdfast-open");
    const database = await open();
    expect(readFileSync(place("holdfast-open"), "utf8")).to.equal("1");
    await closeStateDatabase(folder().path, database);
    expect(readdirSync(folder().at("journal"))).not.to.include("holdfast-open");
  });

  it("is looked through by another process after ends in the middle, and what can be read is kept", async () => {
    await filled();
    for (const name of tables()) {
      const bytes = readFileSync(place(name));
      bytes.fill(0xff, 2000, 12_000);
      writeFileSync(place(name), bytes);
    }
    writeFileSync(place("holdfast-open"), "2");
    const database = await open();
    let found = 0;
    for await (const key of database.keys()) found += Number(key.startsWith("key-"));
    expect(found).to.be.within(1, RECORDS - 1);
    await database.put("new", "value");
    await closeStateDatabase(folder().path, database);
    expect(setAside()).to.deep.equal([]);
  });

  it("is set aside, and begun anew, when it cannot be mended", async () => {
    await filled();
    for (const name of readdirSync(folder().at("journal"))) writeFileSync(place(name), Buffer.alloc(5000, 0xee));
    writeFileSync(place("holdfast-open"), "2");
    const database = await open();
    await database.put("new", "value");
    expect(await database.get("new")).to.equal("value");
    await closeStateDatabase(folder().path, database);
    expect(setAside().length).to.be.at.most(1);
  });
});
