/**
 * The built daemon is told to stop (SIGTERM, as systemd does) while it heals: it ends soon, leaves each file whole or
 * absent and nothing staged, and its next start carries on: no file is put back twice, or over what was saved since.
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, lstatSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { expect } from "chai";
import { STAGING_PREFIX } from "../../src/base/atomic-file.js";
import { until } from "../support/program.js";
import { QuickDaemon } from "../support/soak/quick-daemon.js";

/** Its limit under systemd is 120 s (`TimeoutStopSec`); what is under way is interrupted, not finished. */
const STOP_MS = 10_000;
const LIMIT_MS = 60_000;
const LARGE_BYTES = 96 * 2 ** 20;
/** So many that a daemon which is told to stop at the tenth part is not done by then, on a quick machine either. */
const FILES = 600;

describe("a daemon that is told to stop while it heals", () => {
  it("leaves nothing of a large file half way, which is back whole after the next start", async () => {
    await using stopped = await Stopped.create();
    const path = join(stopped.data, "large");
    writeFileSync(path, contentOf(LARGE_BYTES));
    const digest = await digestOf(path);
    await stopped.protect(path);
    rmSync(path);
    await soon("it is being put back", () => stagedBytes(stopped.data) > 0);
    await stopped.stop();
    expect(readdirSync(stopped.data)).to.deep.equal([]);
    await stopped.start();
    await until("it is back", LIMIT_MS, () => existsSync(path));
    expect(await digestOf(path)).to.equal(digest);
    await until("it is healed", LIMIT_MS, async () => (await stopped.states()).join() === "healed");
    expect(readdirSync(stopped.data)).to.deep.equal(["large"]);
  });

  it("lets what was saved at the place of a large file stand", async () => {
    await using stopped = await Stopped.create();
    const path = join(stopped.data, "large");
    writeFileSync(path, contentOf(LARGE_BYTES));
    await stopped.protect(path);
    rmSync(path);
    await soon("it is being put back", () => stagedBytes(stopped.data) > 0);
    await stopped.stop();
    await writeFile(path, "saved since");
    await stopped.start();
    await until("it is over", LIMIT_MS, async () => (await stopped.states()).join() === "returned");
    expect(await readFile(path, "utf8")).to.equal("saved since");
    expect(readdirSync(stopped.data)).to.deep.equal(["large"]);
  });

  it("carries an approved mass loss on: each file once, and none over what was saved since", async () => {
    await using stopped = await Stopped.create();
    const folder = join(stopped.data, "many");
    await mkdir(folder);
    const names = Array.from({ length: FILES }, (_none, index) => `f${String(index)}`);
    for (const name of names) writeFileSync(join(folder, name), `content of ${name}`);
    await stopped.protect(...names.map((name) => join(folder, name)));
    rmSync(folder, { recursive: true });
    await until("it waits for a word", LIMIT_MS, async () => (await stopped.states()).join() === "waiting");
    const [incident] = await stopped.daemon.incidents();
    const approved = stopped.sandbox.run("incidents", "approve", incident?.id ?? "");
    await soon("some are back", () => existsSync(folder) && namesIn(folder).length > FILES / 10);
    await stopped.stop();
    expect((await approved).exitCode).to.not.equal(0);
    const before = new Map(namesIn(folder).map((name) => [name, lstatSync(join(folder, name)).ino]));
    expect(before.size).to.be.lessThan(FILES);
    const missing = names.filter((name) => !before.has(name));
    expect(missing.length + before.size, "nothing is there but files of the loss").to.equal(FILES);
    const saved = missing.at(-1) ?? "";
    await writeFile(join(folder, saved), "saved since");
    await stopped.start();
    await until("it is healed", LIMIT_MS, async () => (await stopped.states()).join() === "healed");
    expect([...namesIn(folder)].sort()).to.deep.equal([...names].sort());
    for (const name of names) {
      const content = await readFile(join(folder, name), "utf8");
      expect(content).to.equal(name === saved ? "saved since" : `content of ${name}`);
      if (before.has(name)) expect(lstatSync(join(folder, name)).ino, name).to.equal(before.get(name));
    }
  });
});

class Stopped extends QuickDaemon {
  static async create(): Promise<Stopped> {
    return new Stopped(await Stopped.place());
  }

  get data(): string {
    return this.sandbox.data;
  }

  /** Starts the daemon, which stores what is there. */
  async protect(...paths: readonly string[]): Promise<void> {
    await this.start();
    const [first, last] = [paths[0] ?? "", paths.at(-1) ?? ""];
    for (const path of [first, last])
      await until("it is stored", LIMIT_MS, async () => (await this.daemon.newestDigest(path)) !== undefined);
  }

  async stop(): Promise<void> {
    const startMs = performance.now();
    await this.daemon.end("SIGTERM");
    expect(performance.now() - startMs, "time to its end").to.be.lessThan(STOP_MS);
    expect(this.sandbox.daemon.exitCode, this.sandbox.daemon.output.slice(-2000)).to.equal(0);
  }

  /** Of all incidents. */
  async states(): Promise<readonly string[]> {
    return (await this.daemon.incidents()).map(({ state }) => state);
  }
}

/** Looks again and again without a pause. */
async function soon(what: string, condition: () => boolean): Promise<void> {
  const startMs = performance.now();
  while (!condition()) {
    if (performance.now() - startMs > LIMIT_MS) throw new Error(`not seen: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function namesIn(folder: string): readonly string[] {
  return readdirSync(folder).filter((name) => !name.startsWith(STAGING_PREFIX));
}

/** What was written of a file that is not in its place yet. */
function stagedBytes(folder: string): number {
  const staged = readdirSync(folder).filter((name) => name.startsWith(STAGING_PREFIX));
  return staged.reduce((sum, name) => {
    const stats = lstatSync(join(folder, name), { throwIfNoEntry: false });
    return sum + (stats?.size ?? 0);
  }, 0);
}

/** Bytes of which no two pieces are alike, made fast. */
function contentOf(sizeBytes: number): Buffer {
  const content = Buffer.alloc(sizeBytes, "The quick brown fox jumps over the lazy dog. ");
  for (let at = 0; at + 4 <= sizeBytes; at += 512) content.writeUInt32LE(at, at);
  return content;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
