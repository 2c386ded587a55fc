/** Links to the files of critical sources on their own file systems: what was lost comes back without the repository. */
import { existsSync, lstatSync, readdirSync } from "node:fs";
import { appendFile, mkdir, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import { silentObserver } from "../../src/base/observe.js";
import { recoveryStrategies } from "../../src/daemon/plugins.js";
import { LinkPins, type LinkReader, NO_LINKS } from "../../src/recovery/link-pins.js";
import type { LinkKind } from "../../src/recovery/pin-folder.js";
import { readRegularFile } from "../../src/recovery/regular-file.js";
import { pinnedStrategy } from "../../src/recovery/strategies/pinned.js";
import { NO_PINS } from "../../src/recovery/pins.js";
import { FakeClock } from "../support/fake-clock.js";
import { MemoryVersions, NEVER, RecoveryRig, lostFile } from "../support/recovery-rig.js";
import { skip } from "../support/requirements.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";
import { Volume } from "../support/volume.js";

describe("files with a kept hard link", () => {
  const folder = useTempFolder("links");

  it("come back without the repository as the same inode, with what was written after the last version", async () => {
    await using test = await LinkTest.open(folder(), ["hard_link"]);
    const [same, written] = [await test.protect("same", "stored\n", 0o640), await test.protect("written", "stored\n")];
    await test.linkAll();
    const before = lstatSync(same.file).ino;
    await appendFile(written.file, "written later\n");
    for (const { file, path } of [same, written]) {
      await rm(file);
      await test.rig.lose(path);
    }
    expect(lstatSync(same.file)).to.deep.include({ ino: before, mode: 0o100640 });
    expect(await readFile(written.file, "utf8")).to.equal("stored\nwritten later\n");
    const incidents = await test.rig.healer.incidents({ onlyOpen: false, limit: 2 });
    expect(incidents.map(({ taken }) => taken?.strategy)).to.deep.equal(["pinned_links", "pinned_links"]);
  });

  it("come back when they went while the daemon was down", async () => {
    await using rig = await LinkTest.rigIn(folder());
    {
      await using test = await LinkTest.over(rig, folder(), ["hard_link"]);
      await test.protect("a", "stored\n");
      await test.linkAll();
    }
    await rm(folder().at("data/a"));
    await using test = await LinkTest.over(rig, folder(), ["hard_link"]);
    await test.linkAll();
    await rig.lose(folder().bytes("data/a"));
    expect(await readFile(folder().at("data/a"), "utf8")).to.equal("stored\n");
  });

  it("are linked again with the next change after the store could not be read", async () => {
    let failures = 1;
    const beforeLook = async (): Promise<void> => {
      await Promise.resolve();
      failures -= 1;
      if (failures >= 0) throw new Error("the store cannot be read now");
    };
    await using test = await LinkTest.open(folder(), ["hard_link"], { beforeLook });
    const [first, second] = [await test.protect("first", "stored\n"), await test.protect("second", "stored\n")];
    await test.commit(first.path, second.path);
    expect(test.links.size).to.equal(0);
    await test.commit(first.path);
    expect(test.links.size).to.equal(2);
  });

  it("come back as the same inode also where the file is held open, too", async () => {
    await using test = await LinkTest.open(folder(), ["hard_link"]);
    const { file, path } = await test.protect("a", "stored\n");
    await test.linkAll();
    const before = lstatSync(file, { bigint: true });
    const pins = { pinOf: () => ({ stat: before, nameNow: undefined, read: () => readRegularFile(linked, NEVER) }) };
    const linked = test.links.linkOf("data", path)?.file ?? path;
    const lost = lostFile(path, test.rig.watch.known.get(path));
    await rm(file);
    const around = { parameters: {}, note: (): void => undefined, scratchDir: folder().path };
    for await (const candidate of pinnedStrategy(pins, test.links).find(lost, around, NEVER))
      expect(candidate).to.deep.include({ sameInode: true, hardLinkOf: linked, notes: [] });
  });

  it("are not offered their own damage, but what another file replaced comes back", async () => {
    await using test = await LinkTest.open(folder(), ["hard_link"]);
    const [cut, replaced] = [await test.protect("cut", "stored\n"), await test.protect("replaced", "stored\n")];
    await test.linkAll();
    await truncate(cut.file, 0);
    await test.rig.lose(cut.path, "truncated");
    expect(lstatSync(cut.file).size).to.equal(0);
    await writeFile(folder().at("other"), "");
    await rename(folder().at("other"), replaced.file);
    await test.rig.lose(replaced.path, "truncated");
    expect(await readFile(replaced.file, "utf8")).to.equal("stored\n");
  });

  it("are let go with an accepted removal, with their source, and after a day without a name", async () => {
    const clock = new FakeClock();
    await using test = await LinkTest.open(folder(), ["hard_link"], { clock });
    const files = [await test.protect("a", "a"), await test.protect("b", "b"), await test.protect("c", "c")];
    await test.linkAll();
    expect(test.kept()).to.have.length(3);
    const [a, b] = files;
    if (a === undefined || b === undefined) return;
    await rm(a.file);
    test.rig.bus.emit("file.removed", { source: "data", path: a.path, reason: "meant", seenAtMs: 0 });
    expect(test.kept()).to.have.length(2);
    await rm(b.file);
    const lost = {
      source: "data",
      path: b.path,
      kind: "deleted",
      noticedBy: "event",
      seenAtMs: 0,
      detail: "",
    } as const;
    test.rig.bus.emit("mass.loss", { source: "data", losses: [lost], isAttack: false });
    await clock.advance(23 * 3_600_000);
    expect(test.kept()).to.have.length(2);
    await clock.advance(2 * 3_600_000);
    expect(test.kept()).to.have.length(1);
    test.critical.length = 0;
    await clock.advance(60_000);
    expect(test.kept()).to.have.length(0);
  });

  it("are linked anew when a new version is stored, and not while what stands there is not stored", async () => {
    await using test = await LinkTest.open(folder(), ["hard_link"]);
    const { file, path } = await test.protect("a", "old\n");
    await test.linkAll();
    await writeFile(folder().at("new"), "new\n");
    await rename(folder().at("new"), file);
    await test.commit(path);
    expect(await test.text(path)).to.equal("old\n");
    test.rig.register(path);
    await test.commit(path);
    expect(await test.text(path)).to.equal("new\n");
    expect(test.kept()).to.have.length(1);
  });

  it("are bounded, and a folder that somebody else made is not used", async () => {
    await using test = await LinkTest.open(folder(), ["hard_link"], { linksMax: 2 });
    for (const name of ["a", "b", "c"]) await test.protect(name, name);
    await test.linkAll();
    expect(test.kept()).to.have.length(2);
    const planted = folder().below("planted");
    await mkdir(planted.at("elsewhere"));
    await mkdir(planted.at("state"));
    await symlink(planted.at("elsewhere"), planted.at("state/pins"));
    await using other = await LinkTest.over(test.rig, planted, ["hard_link"]);
    await other.linkAll();
    expect(readdirSync(planted.at("elsewhere"))).to.deep.equal([]);
  });

  it("leave no folder behind when links are switched off", async () => {
    await using rig = await LinkTest.rigIn(folder());
    for (const kinds of [["hard_link"], []] as const) {
      await using test = await LinkTest.over(rig, folder(), kinds);
      await test.protect("a", "stored\n");
      await test.linkAll();
      test.links.look();
      expect(lstatSync(folder().at("data/a")).nlink).to.equal(kinds.length + 1);
    }
    expect(existsSync(folder().at("state/pins"))).to.equal(false);
    expect(await readFile(folder().at("state/pin-folders"), "utf8")).to.equal("");
  });
});

for (const kind of ["xfs", "btrfs"] as const) {
  describe(`files with a kept reflink on ${kind}`, () => {
    const folder = useTempFolder("reflinks");

    it("come back after deletion and after damage in place, without the repository", async function () {
      const missing = Volume.missing(kind);
      if (missing !== undefined) skip(this, missing);
      await using volume = Volume.make(kind, folder().at("image"), folder().at("volume"));
      const place = folder().below("volume/work");
      await using test = await LinkTest.open(place, ["reflink", "hard_link"], { stateDir: folder().at("elsewhere") });
      const text = "a good line of text\n".repeat(20_000);
      const [deleted, damaged] = [await test.protect("deleted", text), await test.protect("damaged", text)];
      await test.linkAll();
      expect(lstatSync(damaged.file).nlink, "no second name").to.equal(1);
      const hidden = `${volume.place}/.holdfast-pins-0`;
      expect(readdirSync(hidden)).to.have.length(2);
      expect(lstatSync(hidden).mode & 0o777).to.equal(0o700);
      await rm(deleted.file);
      await test.rig.lose(deleted.path);
      await writeFile(damaged.file, Buffer.alloc(text.length));
      await test.rig.lose(damaged.path, "nul_tail");
      for (const { file } of [deleted, damaged]) expect((await readFile(file, "utf8")) === text, file).to.equal(true);
      const incidents = await test.rig.healer.incidents({ onlyOpen: false, limit: 2 });
      for (const { taken } of incidents) expect(taken).to.deep.include({ strategy: "pinned_links", identical: true });
    });
  });
}

interface Protected {
  readonly path: BytePath;
  readonly file: string;
}

interface About {
  readonly clock?: FakeClock;
  readonly linksMax?: number;
  readonly stateDir?: string;
  /** Called before each look into the store; may throw. */
  readonly beforeLook?: () => Promise<void>;
}

/** Links over a healer whose repository has not one byte. */
class LinkTest implements AsyncDisposable {
  readonly rig: RecoveryRig;
  readonly links: LinkPins;
  /** Sources that are critical now. */
  readonly critical: string[];
  readonly #folder: TempFolder;
  readonly #ownsRig: boolean;

  private constructor(rig: RecoveryRig, folder: TempFolder, parts: Parts) {
    this.rig = rig;
    this.#folder = folder;
    this.links = parts.links;
    this.critical = parts.critical;
    this.#ownsRig = parts.ownsRig;
  }

  static async rigIn(folder: TempFolder): Promise<RecoveryRig> {
    const holder: { links: LinkReader } = { links: NO_LINKS };
    const asked: LinkReader = { linkOf: (source, path) => holder.links.linkOf(source, path) };
    const strategies = recoveryStrategies(new MemoryVersions(), systemClock, NO_PINS, asked);
    const rig = await RecoveryRig.create(folder, { strategies });
    HOLDERS.set(rig, holder);
    await rig.start();
    return rig;
  }

  static async open(folder: TempFolder, kinds: readonly LinkKind[], about: About = {}): Promise<LinkTest> {
    return await LinkTest.over(await LinkTest.rigIn(folder), folder, kinds, { ...about, ownsRig: true });
  }

  static async over(
    rig: RecoveryRig,
    folder: TempFolder,
    kinds: readonly LinkKind[],
    about: About & { readonly ownsRig?: boolean } = {},
  ): Promise<LinkTest> {
    const critical = ["data"];
    const stateDir = about.stateDir ?? folder.at("state");
    await mkdir(stateDir, { recursive: true });
    const links = await LinkPins.open({
      clock: about.clock ?? systemClock,
      observer: silentObserver,
      bus: rig.bus,
      criticalSources: () => critical,
      // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
      filesOf: async function* () {
        for (const path of rig.watch.known.keys()) {
          const node = rig.versions.versions(path)[0]?.node;
          if (node !== undefined) yield { path, node };
        }
      },
      nodeOf: async (path) => {
        await about.beforeLook?.();
        return rig.versions.versions(path)[0]?.node;
      },
      stateDir,
      kinds: new Set(kinds),
      ...(about.linksMax === undefined ? {} : { linksMax: about.linksMax }),
    });
    const holder = HOLDERS.get(rig);
    if (holder !== undefined) holder.links = links;
    return new LinkTest(rig, folder, { links, critical, ownsRig: about.ownsRig === true });
  }

  async protect(name: string, text: string, mode?: number): Promise<Protected> {
    return { path: await this.rig.protect(name, text, mode), file: this.#folder.at(`data/${name}`) };
  }

  async linkAll(): Promise<void> {
    this.rig.bus.emit("watch.ready", { source: "data" });
    await this.links.settled();
  }

  async commit(...paths: readonly BytePath[]): Promise<void> {
    this.rig.bus.emit("commit.durable", { source: "data", paths, oldestSeenAtMs: 0 });
    await this.links.settled();
  }

  kept(): readonly string[] {
    return readdirSync(this.#folder.at("state/pins"));
  }

  async text(path: BytePath): Promise<string> {
    const file = this.links.linkOf("data", path)?.file;
    return file === undefined ? "" : await readFile(Buffer.from(file, "latin1"), "utf8");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.links[Symbol.asyncDispose]();
    if (this.#ownsRig) await this.rig[Symbol.asyncDispose]();
  }
}

interface Parts {
  readonly links: LinkPins;
  readonly critical: string[];
  readonly ownsRig: boolean;
}

/** What the strategies of a rig ask, which outlives one set of links. */
const HOLDERS = new WeakMap<RecoveryRig, { links: LinkReader }>();
