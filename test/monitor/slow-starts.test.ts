/** A start whose first look takes long: what was renamed while nobody watched is met under its new name first. */
import { renameSync, unlinkSync } from "node:fs";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import type { SourceSettings, SourceWatch } from "../../src/monitor/ports.js";
import { FileSource } from "../../src/sources/files.js";
import { FakeClock } from "../support/fake-clock.js";
import { WatchBench } from "../support/watch-bench.js";

const SETTINGS: SourceSettings = { mass: { files: 1000, share: 1 } };
const NO_SWEEPS = { folderSweepMs: 1e12, fileSweepMs: 1e12, rootCheckMs: 1e12 };
/** Longer than what is met late was waited for once. */
const LONG_MS = 200_000;
/** Some entries are met in each step of a look that is slow, not stuck. */
const STEP_MS = 10_000;
/** Turns of the event loop in which a real look at some files is mostly over; a busy machine is given more. */
const TURNS = 400;
const WAITS_MAX = 100;
const BUSY_MAX_MS = 20_000;

type Gate = ReturnType<typeof deferred<undefined>>;

/** A source as it is, but walked as the test likes. */
function walkedBy(source: SourceWatch, walk: SourceWatch["walk"]): SourceWatch {
  const { name, roots, crossMounts } = source;
  return {
    name,
    roots,
    crossMounts,
    includes: (path, kind) => source.includes(path, kind),
    fitsSize: (sizeBytes) => source.fitsSize(sizeBytes),
    mayContain: (folder) => source.mayContain(folder),
    walk,
    folderDigests: (signal, under) => source.folderDigests(signal, under),
  };
}

/** A source whose walk gives one entry for each `step`. */
class SlowWalk {
  #step = deferred<undefined>();
  #stands = deferred<undefined>();
  #isOpen = false;

  of(source: SourceWatch): SourceWatch {
    return walkedBy(source, (signal, under) => this.#slowly(source.walk(signal, under), signal));
  }

  /** Lets one more entry pass; resolves when the walk stands before the next one. */
  async step(): Promise<void> {
    await this.#stands.promise;
    this.#stands = deferred<undefined>();
    this.#pass();
    await this.#stands.promise;
  }

  open(): void {
    this.#isOpen = true;
    this.#pass();
  }

  #pass(): void {
    const before = this.#step;
    this.#step = deferred<undefined>();
    before.resolve(undefined);
  }

  async *#slowly(batches: ReturnType<SourceWatch["walk"]>, signal: AbortSignal): ReturnType<SourceWatch["walk"]> {
    signal.addEventListener("abort", () => this.open(), { once: true });

    for await (const batch of batches) {
      for (const entry of batch) {
        this.#stands.resolve(undefined);
        if (!this.#isOpen) await this.#step.promise;
        yield [entry];
      }
    }
  }
}

function sourceOf(bench: WatchBench, name: string): FileSource {
  return new FileSource({ name, paths: [bench.folder.bytes(name)], ownFolders: [bench.state.bytes()] });
}

/** The sources `one` and `two` with 30 files each beside those of the test, known to a daemon that has ended. */
async function knownBefore(files: readonly string[], clock: FakeClock): Promise<WatchBench> {
  const bench = await WatchBench.create({ clock, times: NO_SWEEPS, nativeEvents: false });
  for (const name of ["one", "two"])
    for (let index = 100; index < 130; index += 1) await bench.folder.write(`${name}/m${String(index)}`, "a file");
  for (const file of files) await bench.folder.write(file, `content of ${file}`);
  for (const name of ["one", "two"])
    await bench.monitor.addSource(sourceOf(bench, name), SETTINGS, bench.signal.signal);
  const isKnown = (): boolean => bench.told.length > 0 && bench.monitor.status().every(({ pending }) => pending === 0);
  await passed(clock, isKnown);
  expect(isKnown(), "all is stored").to.equal(true);
  await bench.close();
  bench.clear();
  await bench.open();
  return bench;
}

/** Starts both sources, `one` with a slow walk; resolves when `two` was looked through. */
async function start(
  bench: WatchBench,
  walk: SlowWalk,
  two: SourceWatch = sourceOf(bench, "two"),
): Promise<{ readonly one: Promise<void> }> {
  const one = bench.monitor.addSource(walk.of(sourceOf(bench, "one")), SETTINGS, bench.signal.signal);
  await bench.monitor.addSource(two, SETTINGS, bench.signal.signal);
  return { one };
}

/** `source`, in whose `folder` a name appears while it is walked: it is compared with what is known when the gate is open. */
function heldIn(bench: WatchBench, source: SourceWatch, folder: string): readonly [SourceWatch, Gate] {
  const gate = deferred<undefined>();
  const { registry } = bench.monitor;
  const children = registry.children.bind(registry);
  registry.children = async function* (name, path, from) {
    if (path === bench.folder.bytes(folder)) await gate.promise;
    yield* children(name, path, from);
  };
  const held = walkedBy(source, async function* (signal, under) {
    for await (const batch of source.walk(signal, under)) {
      await bench.folder.write(`${folder}/came-late`, "a file");
      yield batch;
    }
  });
  return [held, gate];
}

/** Lets the slow walk get on now and then, for longer than any other limit. */
async function getOn(walk: SlowWalk, clock: FakeClock): Promise<void> {
  for (let passedMs = 0; passedMs < LONG_MS; passedMs += STEP_MS) {
    await walk.step();
    await clock.advance(STEP_MS);
  }
}

/** Waits until something was told of what is missing; gives what is lost and what counts as removed. */
async function verdicts(bench: WatchBench, clock: FakeClock): Promise<readonly (readonly string[])[]> {
  await passed(clock, () => told(bench).flat().length > 0);
  return told(bench);
}

/**
 * Lets time pass until it is so: ten seconds in steps, then as much as really passes, since a wait may begin only when a
 * slow disk has answered. Thirty seconds at most: less than what makes a look one that stands still.
 */
async function passed(clock: FakeClock, isSo: () => boolean): Promise<void> {
  for (let waits = 0; !isSo() && waits < WAITS_MAX; waits += 1) await clock.advance(100, TURNS);
  const startMs = performance.now();
  for (let beforeMs = startMs; !isSo() && beforeMs < startMs + BUSY_MAX_MS;) {
    const nowMs = performance.now();
    await clock.advance(nowMs - beforeMs, TURNS);
    beforeMs = nowMs;
  }
}

function told(bench: WatchBench): readonly (readonly string[])[] {
  return [bench.paths("file.lost"), bench.paths("file.removed")];
}

describe("a start whose first look takes long", () => {
  for (const [what, from, to] of [
    ["is met last", "one/a-old", "one/z-new"],
    ["was met first", "one/z-old", "one/a-new"],
    ["stands in another source", "two/old", "one/z-new"],
  ] as const)
    it(`a rename while no daemon ran is known as one, also where the new name ${what}`, async () => {
      const clock = new FakeClock(Date.now());
      await using bench = await knownBefore([from], clock);
      renameSync(bench.folder.at(from), bench.folder.at(to));
      const walk = new SlowWalk();
      const starting = await start(bench, walk);
      await getOn(walk, clock);
      expect(told(bench), "while it looks").to.deep.equal([[], []]);
      walk.open();
      await starting.one;
      expect(await verdicts(bench, clock)).to.deep.equal([[], [from]]);
    });

  it("what is deleted after a source was looked through is told soon, also when a look from the start finds it", async () => {
    const clock = new FakeClock(Date.now());
    await using bench = await knownBefore(["two/before", "two/now"], clock);
    unlinkSync(bench.folder.at("two/before"));
    const [two, gate] = heldIn(bench, sourceOf(bench, "two"), "two");
    const walk = new SlowWalk();
    const starting = await start(bench, walk, two);
    unlinkSync(bench.folder.at("two/now"));
    gate.resolve(undefined);
    expect(await verdicts(bench, clock)).to.deep.equal([["two/now"], []]);
    walk.open();
    await starting.one;
  });

  it("what is deleted while it looks is told soon, and so is what went before when the look stands still", async () => {
    const clock = new FakeClock(Date.now());
    await using bench = await knownBefore(["two/before", "two/now"], clock);
    unlinkSync(bench.folder.at("two/before"));
    const walk = new SlowWalk();
    const starting = await start(bench, walk);
    unlinkSync(bench.folder.at("two/now"));
    bench.monitor.ownWriteStands(bench.folder.bytes("two/now")); // as an event does
    expect(await verdicts(bench, clock), "at once").to.deep.equal([["two/now"], []]);
    bench.clear();
    await clock.advance(60_000);
    expect(await verdicts(bench, clock), "a look that stands still").to.deep.equal([["two/before"], []]);
    walk.open();
    await starting.one;
  });
});
