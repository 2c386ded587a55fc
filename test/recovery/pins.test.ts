/** Files of critical sources that are held open: nothing of them is lost when they are deleted or replaced. */
import { randomBytes } from "node:crypto";
import { appendFile, open, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { EventBus } from "../../src/base/events.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { recoveryStrategies } from "../../src/daemon/plugins.js";
import { systemClock } from "../../src/base/clock.js";
import { Pins } from "../../src/recovery/pins.js";
import type { RecoveryStrategy } from "../../src/recovery/strategy.js";
import { FakeClock } from "../support/fake-clock.js";
import { MemoryVersions, NEVER, RecoveryRig, bytesOf } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("pinned files", () => {
  const folder = useTempFolder("pins");

  it("come back with every byte that was written after the last backup, in 20 of 20 losses", async () => {
    const bus = new EventBus(() => undefined);
    const paths: BytePath[] = [];
    await using pins = openPins(bus, paths);
    const strategies = recoveryStrategies(new MemoryVersions(), systemClock, pins); // without any backup
    await using rig = await RecoveryRig.create(folder(), { strategies });
    await rig.start();
    for (let index = 0; index < 20; index += 1) paths.push(await rig.protect(`f${String(index)}`, "stored\n"));
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    expect(pins.size).to.equal(20);
    for (const [index, path] of paths.entries()) {
      const file = folder().at(`data/f${String(index)}`);
      await appendFile(file, `written later ${String(index)}\n`);
      await rm(file);
      await rig.lose(path);
      expect(await readFile(file, "utf8")).to.equal(`stored\nwritten later ${String(index)}\n`);
    }
    const [newest] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    expect(newest?.taken).to.deep.include({ strategy: "pinned", identical: true });
  });

  for (const [how, noise] of Object.entries({ noise: randomBytes(40_000), zeros: Buffer.alloc(40_000) })) {
    it(`that were overwritten with ${how} before they were deleted come back from the backup`, async () => {
      const bus = new EventBus(() => undefined);
      const paths: BytePath[] = [];
      await using pins = openPins(bus, paths);
      const strategies: RecoveryStrategy[] = [];
      await using rig = await RecoveryRig.create(folder(), { strategies });
      strategies.push(...recoveryStrategies(rig.versions, systemClock, pins));
      await rig.start();
      const path = await rig.protect("notes", "a good line of text\n".repeat(2000));
      paths.push(path);
      bus.emit("watch.ready", { source: "data" });
      await pins.settled();
      const file = folder().at("data/notes");
      await using handle = await open(file, "r+");
      await handle.write(noise, 0, noise.length, 0);
      await rm(file);
      await rig.lose(path);
      expect((await readFile(file, "utf8")).slice(0, 20)).to.equal("a good line of text\n");
      const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
      expect(incident?.taken).to.deep.include({ strategy: "latest_backup", identical: true });
      expect(incident?.candidates.find(({ strategy }) => strategy === "pinned")?.verdict).to.equal("offered");
    });
  }

  it("are held anew when another file takes the name, and let go when their removal is accepted", async () => {
    const bus = new EventBus(() => undefined);
    const path = pathFromText(await folder().write("a", "old\n"));
    await using pins = openPins(bus, [path]);
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    await folder().write("b", "new\n");
    await rename(folder().at("b"), folder().at("a"));
    expect(await text(pins, path)).to.equal("old\n");
    bus.emit("commit.durable", { source: "data", paths: [path], oldestSeenAtMs: 0 });
    expect(await text(pins, path)).to.equal("new\n");
    await rename(folder().at("a"), folder().at("moved"));
    expect(pins.pinOf(path)?.nameNow).to.equal(folder().bytes("moved"));
    bus.emit("file.removed", { source: "data", path, reason: "meant", seenAtMs: 0 });
    expect(pins.pinOf(path)).to.equal(undefined);
  });

  it("that have no name any more are let go after a while, and reading them then fails", async () => {
    const bus = new EventBus(() => undefined);
    const clock = new FakeClock();
    const path = pathFromText(await folder().write("a", "x".repeat(1_000_000)));
    await using pins = openPins(bus, [path], { clock });
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    await rm(folder().at("a"));
    const reading = pins.pinOf(path)?.read(NEVER)[Symbol.asyncIterator]();
    await reading?.next();
    await clock.advance(5 * 60_000);
    expect(pins.size).to.equal(1);
    await clock.advance(15 * 60_000);
    expect(pins.size).to.equal(0);
    if (reading !== undefined) expect(await rejection(reading.next())).to.have.property("code", "NOT_FOUND");
  });

  it("are bounded, never links, and never of sources that are not critical", async () => {
    const bus = new EventBus(() => undefined);
    const paths = [];
    for (const name of ["a", "b", "c"]) paths.push(pathFromText(await folder().write(name, name)));
    await symlink(folder().at("a"), folder().at("link"));
    await using pins = openPins(bus, [folder().bytes("link"), folder().bytes("missing"), ...paths], { pinsMax: 2 });
    bus.emit("watch.ready", { source: "other" });
    await pins.settled();
    expect(pins.size).to.equal(0);
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    expect(pins.size).to.equal(2);
    expect(pins.pinOf(folder().bytes("link"))).to.equal(undefined);
  });

  it("offer only the file that was known good, not one that took its place", async () => {
    const bus = new EventBus(() => undefined);
    await using rig = await RecoveryRig.create(folder());
    const path = await rig.protect("a", "good\n");
    await writeFile(folder().at("planted"), "planted\n");
    await rename(folder().at("planted"), folder().at("data/a"));
    await using pins = openPins(bus, [path]);
    bus.emit("watch.ready", { source: "data" });
    await pins.settled();
    const [strategy] = recoveryStrategies(rig.versions, systemClock, pins);
    const lost = {
      source: "data",
      path,
      kind: "deleted",
      seenAtMs: 0,
      lastGood: rig.watch.known.get(path),
      present: undefined,
    } as const;
    const search = { parameters: {}, note: () => undefined, scratchDir: folder().path };
    const found = [];
    if (strategy !== undefined) for await (const candidate of strategy.find(lost, search, NEVER)) found.push(candidate);
    expect(strategy?.id).to.equal("pinned");
    expect(found).to.deep.equal([]);
  });

  function openPins(
    bus: EventBus,
    paths: readonly BytePath[],
    about: { readonly clock?: FakeClock; readonly pinsMax?: number } = {},
  ): Pins {
    return new Pins({
      clock: about.clock ?? systemClock,
      observer: silentObserver,
      bus,
      isCritical: (source) => source === "data",
      // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
      filesOf: async function* () {
        yield* paths;
      },
      stateDir: folder().path,
      ...(about.pinsMax === undefined ? {} : { pinsMax: about.pinsMax }),
    });
  }
});

async function text(pins: Pins, path: BytePath): Promise<string> {
  const pin = pins.pinOf(path);
  return pin === undefined ? "" : (await bytesOf(pin.read(NEVER))).toString();
}
