/** Healing over the real repository: what it stored is what comes back. */
import { createHash, randomBytes } from "node:crypto";
import { chmod, link, lstat, readFile, readdir, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { nativeCalls } from "../../src/base/native.js";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { EngineRig, upsert } from "../support/engine-rig.js";
import { NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("healing over the real repository", () => {
  const folder = useTempFolder("real-repository");

  it("brings back large and small files with all their attributes", async () => {
    await using place = await Place.create(folder());
    const big = randomBytes(3_000_000);
    const files = { "big.bin": big, "small.txt": Buffer.from("small"), empty: Buffer.alloc(0) };
    const native = nativeCalls();
    for (const [name, bytes] of Object.entries(files)) {
      const file = await folder().write(`data/sub/${name}`, bytes);
      await chmod(file, 0o604);
      await utimes(file, 5, 1_234_567_890.125);
      native?.setXattr({ path: Buffer.from(file) }, "user.kept", Buffer.from(name));
    }
    await place.store(["sub", ...Object.keys(files).map((name) => `sub/${name}`)]);
    await rm(folder().at("data/sub"), { recursive: true });
    for (const name of Object.keys(files)) await place.rig.lose(folder().bytes(`data/sub/${name}`));
    for (const [name, bytes] of Object.entries(files)) {
      const file = folder().at("data/sub", name);
      expect((await readFile(file)).equals(bytes), name).to.equal(true);
      const after = await lstat(file, { bigint: true });
      expect([Number(after.mode) & 0o7777, after.mtimeNs]).to.deep.equal([0o604, 1_234_567_890_125_000_000n]);
      const kept = native?.getXattr({ path: Buffer.from(file) }, "user.kept");
      if (native !== undefined) expect(kept?.toString()).to.equal(name);
    }
  });

  it("links a name back to the inode that has another one, by the content's digest", async () => {
    await using place = await Place.create(folder());
    await folder().write("data/one", "shared content");
    await link(folder().at("data/one"), folder().at("data/two"));
    await place.store(["one", "two"]);
    await rm(folder().at("data/two"));
    place.rig.policy = { ...place.rig.policy, chain: [] };
    await place.rig.lose(folder().bytes("data/two"));
    expect((await stat(folder().at("data/two"))).ino).to.equal((await stat(folder().at("data/one"))).ino);
  });

  it("does not put back what the store cannot prove, and takes another copy", async () => {
    await using place = await Place.create(folder());
    const text = Buffer.from(randomBytes(60_000).toString("hex"));
    await folder().write("data/a.txt", text);
    await folder().write("data/copy.txt", text);
    await place.store(["a.txt", "copy.txt"]);
    await place.repository.seal(NEVER);
    await damagePacks(join(place.storeFolder, "packs/d"));
    await rm(folder().at("data/a.txt"));
    await place.rig.lose(folder().bytes("data/a.txt"));
    const [incident] = await place.rig.healer.incidents({ onlyOpen: false, limit: 1 });
    expect(incident?.state, JSON.stringify(incident?.candidates)).to.equal("healed");
    expect(incident?.taken?.strategy).to.equal("same_content");
    expect(incident?.candidates[0]).to.deep.include({ strategy: "latest_backup", verdict: "refused" });
    expect((await readFile(folder().at("data/a.txt"))).equals(text)).to.equal(true);
  });

  it("recovers the version of a time", async () => {
    await using place = await Place.create(folder());
    const path = folder().bytes("data/a.txt");
    await folder().write("data/a.txt", "first");
    await place.store(["a.txt"]);
    const between = (await place.repository.versions(path))[0]?.timeMs ?? 0;
    while (Date.now() <= between) await new Promise((resolve) => setImmediate(resolve));
    await writeFile(folder().at("data/a.txt"), "second");
    await place.store(["a.txt"]);
    await truncate(folder().at("data/a.txt"), 0);
    const result = await place.rig.healer.recover("data", path, { atMs: between }, NEVER);
    expect(result.outcome).to.equal("healed");
    expect(await readFile(folder().at("data/a.txt"), "utf8")).to.equal("first");
  });
});

/** A healer over a repository that stores `data/`. */
class Place implements AsyncDisposable {
  readonly rig: RecoveryRig;
  readonly repository: Repository;
  readonly storeFolder: string;
  readonly #folder: TempFolder;

  private constructor(folder: TempFolder, rig: RecoveryRig, repository: Repository, storeFolder: string) {
    this.storeFolder = storeFolder;
    this.#folder = folder;
    this.rig = rig;
    this.repository = repository;
  }

  static async create(folder: TempFolder): Promise<Place> {
    const engine = await EngineRig.create(await TempFolder.create("engine", folder.path));
    const repository = await engine.open();
    const rig = await RecoveryRig.create(folder, { reader: repository });
    await rig.start();
    return new Place(folder, rig, repository, engine.storeUrl);
  }

  /** Commits the names below `data/` and registers them as the monitor does. */
  async store(names: readonly string[]): Promise<void> {
    const paths: BytePath[] = names.map((name) => this.#folder.bytes(`data/${name}`));
    const receipt = await upsert(this.repository, "data", paths);
    for (const { path, node } of receipt.stored) this.rig.watch.known.set(path, lastGoodOf(node));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.rig[Symbol.asyncDispose]();
    await this.repository[Symbol.asyncDispose]();
  }
}

/** Flips bytes in the middle of every pack. */
async function damagePacks(folder: string): Promise<void> {
  for (const name of await readdir(folder, { recursive: true })) {
    const file = join(folder, name);
    if (!(await stat(file)).isFile()) continue;
    const bytes = await readFile(file);
    const before = createHash("sha256").update(bytes).digest("hex");
    for (let at = 500; at < bytes.length - 500; at += 100) bytes[at] = (bytes[at] ?? 0) ^ 0xff;
    await chmod(file, 0o600);
    await writeFile(file, bytes);
    expect(createHash("sha256").update(bytes).digest("hex")).not.to.equal(before);
  }
}
