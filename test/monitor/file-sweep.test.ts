/** The sweep of all files: it compares only folders that are not as they were, and finds there what no event told. */
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import type { BytePath } from "../../src/base/paths.js";
import type { SourceWatch } from "../../src/monitor/ports.js";
import { FileSource } from "../../src/sources/files.js";
import { WatchBench } from "../support/watch-bench.js";

const SWEEP_MS = 20;
const NEVER_MS = 3_600_000;
/** Stands for a read of all that the registry has of the source. */
const PASS = "(all)";
const FILES = ["one.txt", "a/two.txt", "a/deep/three.txt", "a/deep/four.txt", "b/five.txt", "b/six.txt"];

type Extra = Partial<ConstructorParameters<typeof FileSource>[0]>;

/** A watched folder whose sweeps are counted, and the reads of the registry in them. */
class SweptBench implements AsyncDisposable {
  readonly bench: WatchBench;
  /** Walks for digests that came to their end. */
  sweeps = 0;
  /** Folders that were compared, and passes over everything, in their order. */
  reads: string[] = [];
  /** Sweeps wait for this before they walk. */
  gate: Promise<void> | undefined;
  /** A pass cannot look at what this is true of. */
  isUnreadable: (path: BytePath) => boolean = () => false;

  private constructor(bench: WatchBench) {
    this.bench = bench;
    const { registry } = bench.monitor;
    const [children, entries] = [registry.children.bind(registry), registry.entries.bind(registry)];
    registry.children = (source, folder, from) => {
      this.reads.push(folder.slice(bench.folder.bytes().length + 1));
      return children(source, folder, from);
    };
    registry.entries = (source, below) => {
      this.reads.push(PASS);
      return entries(source, below);
    };
  }

  /** All files are known and one pass has compared them. */
  static async create(extra: Extra = {}, roots: readonly string[] = []): Promise<SweptBench> {
    const { swept, release } = await SweptBench.begin(extra, roots);
    release();
    await swept.untilSettled();
    return swept;
  }

  /** All files are known; the first sweep, which passes over everything, waits to be released. */
  static async begin(
    extra: Extra = {},
    roots: readonly string[] = [],
  ): Promise<{ readonly swept: SweptBench; readonly release: () => void }> {
    const bench = await WatchBench.create({
      nativeEvents: false,
      times: { pollMs: NEVER_MS, folderSweepMs: NEVER_MS, fileSweepMs: SWEEP_MS },
    });
    for (const file of FILES) await bench.folder.write(file, `content of ${file}`);
    const swept = new SweptBench(bench);
    const first = deferred<undefined>();
    swept.gate = first.promise;
    const paths = roots.map((root) => bench.folder.bytes(root));
    const source = swept.#counted(paths.length === 0 ? extra : { ...extra, paths });
    await bench.monitor.addSource(source, {}, bench.signal.signal);
    const files = FILES.filter((file) => source.includes(bench.folder.bytes(file)));
    const isKnown = (file: string): boolean =>
      bench.monitor.registry.get("data", bench.folder.bytes(file)) !== undefined;
    await bench.until("all is known", () => files.every(isKnown));
    return { swept, release: () => first.resolve(undefined) };
  }

  async more(count: number): Promise<void> {
    const until = this.sweeps + count;
    await this.bench.until(`${String(count)} sweeps`, () => this.sweeps >= until);
  }

  /** Waits until sweeps found nothing to compare; fails when they go on finding something. */
  async untilSettled(): Promise<void> {
    for (let tries = 0; tries < 25; tries += 1) {
      this.forget();
      await this.more(2);
      if (this.reads.length === 0) return;
    }
    expect.fail(`what is compared again and again: ${this.reads.join(", ")}`);
  }

  /** Waits until everything was compared, and will not be for a while, and all is settled. */
  async untilPassed(): Promise<void> {
    this.forget();
    await this.bench.until("a pass", () => this.reads.includes(PASS));
    this.forget();
  }

  /** Waits until a folder is compared; fails when everything was first. */
  async untilCompared(folder: string): Promise<void> {
    await this.bench.until(`${folder} is compared`, () => [folder, PASS].some((read) => this.reads.includes(read)));
    expect(this.reads).to.include(folder).and.not.to.include(PASS);
  }

  forget(): void {
    this.reads = [];
    this.bench.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.bench[Symbol.asyncDispose]();
  }

  #counted(extra: Extra): SourceWatch {
    const { folder, state } = this.bench;
    const source = new FileSource({ name: "data", paths: [folder.bytes()], ownFolders: [state.bytes()], ...extra });
    const digests = source.folderDigests.bind(source);
    const walk = source.walk.bind(source);
    const counted = async function* (
      this: SweptBench,
      ...asked: Parameters<typeof digests>
    ): ReturnType<typeof digests> {
      await this.gate;
      yield* digests(...asked);
      this.sweeps += 1;
    };
    const partly = async function* (this: SweptBench, ...asked: Parameters<typeof walk>): ReturnType<typeof walk> {
      for await (const batch of walk(...asked))
        yield batch.map((entry) => (this.isUnreadable(entry.path) ? { path: entry.path, errno: "EIO" } : entry));
    };
    return Object.assign(source, { folderDigests: counted.bind(this), walk: partly.bind(this) });
  }
}

describe("the sweep of all files", () => {
  it("compares nothing while nothing changes, and everything once in twelve times", async () => {
    await using swept = await SweptBench.create();
    swept.forget();
    await swept.more(26);
    expect(swept.reads.length).to.be.within(2, 3);
    expect(new Set(swept.reads)).to.deep.equal(new Set([PASS]));
    expect(swept.bench.told).to.deep.equal([]);
  });

  describe("that finds a change where no event told", () => {
    let swept: SweptBench;
    before(async () => {
      swept = await SweptBench.create();
      mkdirSync(swept.bench.folder.at("empty"));
      await swept.bench.until("the folder", () => swept.bench.paths("file.changed").includes("empty"));
      await swept.untilSettled();
    });
    after(async () => await swept[Symbol.asyncDispose]());

    for (const [what, folder, path, change] of [
      ["a write in place that keeps the time", "a", "a/two.txt", (at) => writeKeepingTime(at("a/two.txt"))],
      ["another inode of the same size and time", "b", "b/six.txt", (at) => replaceKeepingTime(at("b/six.txt"))],
      ["other rights of a file", "a/deep", "a/deep/four.txt", (at) => chmodSync(at("a/deep/four.txt"), 0o600)],
      ["other rights of a folder", "a", "a/deep", (at) => chmodSync(at("a/deep"), 0o700)],
      ["other rights of the source's own folder", "", "", (at) => chmodSync(at(""), 0o711)],
      [
        "a file in a folder that was empty",
        "empty",
        "empty/new.txt",
        (at) => writeFileSync(at("empty/new.txt"), "new"),
      ],
      ["a file in a new folder", "b", "b/new/file.txt", (at) => writeInNewFolder(at("b/new"))],
      ["a second name", "b", "b/one-more.txt", (at) => linkSync(at("one.txt"), at("b/one-more.txt"))],
    ] satisfies readonly (readonly [string, string, string, (at: (name: string) => string) => void])[])
      it(`compares the folder of ${what}`, async () => {
        await swept.untilPassed();
        change((name) => swept.bench.folder.at(name));
        await swept.untilCompared(folder);
        await swept.bench.until("the change", () => swept.bench.paths("file.changed").includes(path));
        await swept.untilSettled();
        expect(swept.bench.faults).to.deep.equal([]);
      });
  });

  for (const [what, change, lost] of [
    ["a file that is gone", (at) => unlinkSync(at("a/deep/three.txt")), ["a/deep/three.txt"]],
    ["the last files of a folder", (at) => ["b/five.txt", "b/six.txt"].map(at).forEach(unlinkSync), FILES.slice(4)],
    ["a folder that is gone", (at) => rmSync(at("a"), { recursive: true }), FILES.slice(1, 4)],
  ] satisfies readonly (readonly [string, (at: (name: string) => string) => void, readonly string[]])[])
    it(`misses ${what}`, async () => {
      await using swept = await SweptBench.create();
      change((name) => swept.bench.folder.at(name));
      const missed = (): readonly string[] => FILES.filter((file) => isMissed(swept.bench, file));
      await swept.bench.until("the loss", () => missed().length === lost.length);
      expect(missed()).to.have.members(lost);
    });

  it("compares a folder again when something else is known of what is in it", async () => {
    await using swept = await SweptBench.create();
    await swept.untilPassed();
    swept.bench.monitor.registry.forget("data", swept.bench.folder.bytes("a/two.txt"));
    await swept.untilCompared("a");
    await swept.bench.until("it is known again", () => swept.bench.paths("file.changed").includes("a/two.txt"));
    await swept.untilSettled();
    expect(await swept.bench.live()).to.have.members(FILES);
  });

  it("does not compare a folder again because a file in it was read and found sound", async () => {
    await using swept = await SweptBench.create();
    await swept.untilPassed();
    await swept.untilSettled();
    const [{ registry }, path] = [swept.bench.monitor, swept.bench.folder.bytes("a/two.txt")];
    const record = registry.get("data", path);
    if (record === undefined) throw new Error("it is not known");
    registry.put("data", path, { ...record, lastVerifiedMs: record.lastVerifiedMs + 1, valid: true });
    await swept.more(3);
    expect(swept.reads).to.deep.equal([]);
  });

  it("goes on comparing what is told and does not become durable", async () => {
    await using swept = await SweptBench.create();
    const { bench } = swept;
    const commit = bench.commit.bind(bench);
    bench.commit = () => undefined; // as when the store is away
    writeFileSync(bench.folder.at("b/five.txt"), "more");
    const timesTold = (): number => bench.paths("file.changed").filter((path) => path === "b/five.txt").length;
    await bench.until("it is told again and again", () => timesTold() >= 3);
    bench.commit = commit;
    await swept.untilSettled();
    expect(bench.monitor.registry.get("data", bench.folder.bytes("b/five.txt"))?.stat.sizeBytes).to.equal(4);
  });

  it("goes on comparing what changed while its folder was compared, and does not become durable", async () => {
    await using swept = await SweptBench.create();
    const { bench } = swept;
    await swept.untilPassed();
    bench.commit = () => undefined;
    const held = holdAfterFirst(bench, "b");
    const six = bench.folder.bytes("b/six.txt");
    const record = bench.monitor.registry.get("data", six);
    bench.monitor.registry.forget("data", six);
    if (record !== undefined) bench.monitor.registry.put("data", six, record);
    await held.reached;
    writeFileSync(bench.folder.at("b/five.txt"), "more");
    await swept.more(2);
    held.release();
    const timesTold = (): number => bench.paths("file.changed").filter((path) => path === "b/five.txt").length;
    await bench.until("it is told again and again", () => timesTold() >= 3);
    expect(swept.reads).not.to.include(PASS);
  });

  it("compares anew what a pass over everything could not look at", async () => {
    const { swept, release } = await SweptBench.begin();
    await using _open = swept;
    const { bench } = swept;
    const five = bench.folder.bytes("b/five.txt");
    writeFileSync(bench.folder.at("b/five.txt"), "more");
    swept.isUnreadable = (path) => path === five;
    release();
    await swept.more(2);
    swept.isUnreadable = () => false;
    swept.reads = []; // what was told stays: the change may be among it already
    await bench.until("the change", () => bench.paths("file.changed").includes("b/five.txt"));
    expect(swept.reads).not.to.include(PASS);
  });

  it("passes over everything again when a pass failed", async () => {
    const { swept, release } = await SweptBench.begin();
    await using _open = swept;
    let passes = 0;
    swept.isUnreadable = () => {
      passes += 1;
      if (passes === 1) throw new Error("the walk failed");
      return false;
    };
    release();
    await swept.more(3);
    expect(passes).to.be.greaterThan(1);
  });

  it("settles what changed in the first of several folders of a source", async () => {
    await using swept = await SweptBench.create({}, ["a", "b"]);
    writeKeepingTime(swept.bench.folder.at("a/two.txt"));
    await swept.bench.until("the change", () => swept.bench.paths("file.changed").includes("a/two.txt"));
    await swept.untilSettled();
  });

  it("passes over everything when much changed", async () => {
    await using swept = await SweptBench.create();
    swept.forget();
    for (let index = 0; index < 2100; index += 1) await swept.bench.folder.write(`many/${String(index)}`, "a file");
    await swept.bench.until("all is told", () => new Set(swept.bench.paths("file.changed")).size >= 2100);
    expect(swept.reads).to.include(PASS);
    await swept.untilSettled();
  });

  it("settles folders that hold names which are not protected", async () => {
    await using swept = await SweptBench.create({ exclude: ["*.tmp"], sizeBytesMax: 100 });
    writeFileSync(swept.bench.folder.at("a/left-out.tmp"), "excluded");
    writeFileSync(swept.bench.folder.at("b/too-large.txt"), Buffer.alloc(101));
    await swept.more(2);
    await swept.untilSettled();
    expect(swept.bench.paths("file.changed")).to.deep.equal([]);
  });
});

/** Holds the next comparison of a folder when the first path known in it has been looked at. */
function holdAfterFirst(bench: WatchBench, folder: string): { readonly reached: Promise<void>; release(): void } {
  const { registry } = bench.monitor;
  const read = registry.children.bind(registry);
  const [reached, released] = [deferred<undefined>(), deferred<undefined>()];
  registry.children = async function* (source, asked, from) {
    const isHeld = asked === bench.folder.bytes(folder);
    if (isHeld) registry.children = read;
    for await (const known of read(source, asked, from)) {
      yield known;
      if (!isHeld) continue;
      reached.resolve(undefined);
      await released.promise;
    }
  };
  return { reached: reached.promise, release: () => released.resolve(undefined) };
}

function isMissed(bench: WatchBench, file: string): boolean {
  return bench.monitor.registry.get("data", bench.folder.bytes(file))?.state === "lost";
}

function writeKeepingTime(file: string): void {
  const { atime, mtime } = statSync(file);
  const content = readFileSync(file);
  content[0] = 0x43;
  writeFileSync(file, content);
  utimesSync(file, atime, mtime);
}

function replaceKeepingTime(file: string): void {
  const { atime, mtime } = statSync(file);
  writeFileSync(`${file}.tmp`, readFileSync(file));
  utimesSync(`${file}.tmp`, atime, mtime);
  renameSync(`${file}.tmp`, file);
}

function writeInNewFolder(folder: string): void {
  mkdirSync(folder);
  writeFileSync(`${folder}/file.txt`, "in a new folder");
}
