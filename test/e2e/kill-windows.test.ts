/**
 * The built daemon killed in the two moments in which one thing is on the disk and the next is not: a version is stored
 * and not registered, a file is put back and its incident not written. The state that the kill left is looked at, so that
 * the test knows that it met the moment; where it came too late it tries another file.
 */
import { readdirSync, statSync, unlinkSync, writeFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { Level } from "level";
import { pathFromText } from "../../src/base/paths.js";
import { Registry, monitorSublevel } from "../../src/monitor/registry.js";
import { type Sandbox, until } from "../support/program.js";
import { QuickDaemon } from "../support/soak/quick-daemon.js";

const TRIES_MAX = 5;
/** How long a moment is waited for without letting anything else run, ms. */
const BUSY_MAX_MS = 10_000;
const LIMIT_MS = 40_000;

describe("a daemon that is killed between two steps", () => {
  it("knows at the next start what it had stored and not registered: deleted meanwhile, it comes back", async () => {
    await using killed = await Killed.create();
    const { sandbox, daemon } = killed;
    const first = join(sandbox.data, "first"); // the log begins with it
    writeFileSync(first, "first");
    await until("the first is stored", LIMIT_MS, async () => (await daemon.newestDigest(first)) !== undefined);
    for (let index = 1; ; index += 1) {
      const path = join(sandbox.data, `new-${String(index)}`);
      const before = logSize(sandbox);
      writeFileSync(path, `stored ${String(index)}`);
      await killed.killWhen("the version is in the log", () => logSize(sandbox) !== before);
      const known = await killed.inDatabase(async (database) => {
        const registry = await Registry.open(monitorSublevel(database));
        return registry.get("data", pathFromText(path));
      });
      const isStored = (await sandbox.run("versions", path)).exitCode === 0;
      const isMet = isStored && known === undefined;
      if (isMet) unlinkSync(path);
      await killed.start();
      await until("it is stored", LIMIT_MS, async () => (await daemon.newestDigest(path)) !== undefined);
      if (isMet) {
        await until("it is back", LIMIT_MS, () => existsSync(path));
        expect(readFileSync(path, "utf8")).to.equal(`stored ${String(index)}`);
        break;
      }
      expect(index, "the moment was missed each time").to.be.lessThan(TRIES_MAX);
    }
    await daemon.end("SIGKILL");
  });

  it("knows at the next start what it had put back and not told: healed, once, and deleted again it stays gone", async () => {
    await using killed = await Killed.create();
    const { sandbox, daemon } = killed;
    for (let index = 1; ; index += 1) {
      const path = join(sandbox.data, `old-${String(index)}`);
      writeFileSync(path, `put back ${String(index)}`);
      await until("it is stored", LIMIT_MS, async () => (await daemon.newestDigest(path)) !== undefined);
      unlinkSync(path);
      await killed.killWhen("the file is in its place", () => existsSync(path));
      const written = await killed.inDatabase(async (database) => {
        const records = await database.sublevel("incidents").iterator({ gte: "i!", lt: "i~" }).all();
        return records.map(([, text]) => JSON.parse(text) as { state: string }).at(-1)?.state;
      });
      await killed.start();
      const stateOf = async () => (await daemon.incidents()).find(({ paths }) => paths[0]?.path === path)?.state;
      await until("the incident is closed", LIMIT_MS, async () => (await stateOf()) !== "healing");
      expect(await stateOf()).to.equal("healed");
      unlinkSync(path);
      await until("the removal is stored", LIMIT_MS, async () => await daemon.isRemoved(path));
      expect(existsSync(path)).to.equal(false);
      if (written === "healing") break;
      expect(index, "the moment was missed each time").to.be.lessThan(TRIES_MAX);
    }
    await daemon.end("SIGKILL");
  });
});

class Killed extends QuickDaemon {
  static async create(): Promise<Killed> {
    const killed = new Killed(await Killed.place());
    await killed.start();
    return killed;
  }

  /** Looks without a pause, and kills the daemon within the same moment. */
  async killWhen(what: string, isDone: () => boolean): Promise<void> {
    const startMs = performance.now();
    while (!isDone()) if (performance.now() - startMs > BUSY_MAX_MS) throw new Error(`not seen: ${what}`);
    await this.daemon.end("SIGKILL");
  }

  async inDatabase<T>(work: (database: Level) => Promise<T>): Promise<T> {
    const database = new Level<string, string>(join(this.sandbox.state, "journal"));
    await database.open();
    try {
      return await work(database);
    } finally {
      await database.close();
    }
  }
}

/** Names and sizes of the segments of the write-ahead log. */
function logSize(sandbox: Sandbox): string {
  const names = readdirSync(join(sandbox.store, "wal"), { recursive: true, encoding: "utf8" });
  return names.map((name) => `${name} ${String(statSync(join(sandbox.store, "wal", name)).size)}`).join("\n");
}
