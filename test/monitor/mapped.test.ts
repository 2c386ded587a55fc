/** Stores through a shared mapping: no stat tells of them, and what they left is the owner's content, never rot. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { hasTrueCtime, unseenStoresMs } from "../../src/engine/rot.js";
import { SCRUB_TICK_MS } from "../../src/monitor/integrity.js";
import type { RegistryRecord } from "../../src/monitor/registry.js";
import { hasWriter } from "../../src/monitor/writers.js";
import { FakeClock } from "../support/fake-clock.js";
import { Mapper } from "../support/mapper.js";
import { requirePrograms, requireRoot, requireTrueCtime, skip } from "../support/requirements.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";
import { WatchBench } from "../support/watch-bench.js";

const DAY_MS = 86_400_000;
const FIRST = "a first content\n".repeat(20);

describe("a file that is stored into through a mapping", () => {
  beforeEach(function () {
    requirePrograms(this, "python3");
    requireTrueCtime(this);
  });

  it("becomes a version again when a store moved nothing, and is not healed", async () => {
    await using bench = await WatchBench.create({ nativeEvents: false });
    const file = await bench.folder.write("mapped.db", FIRST);
    const path = bench.folder.bytes("mapped.db");
    await using mapper = await Mapper.of(file);
    expect(await mapper.store("b"), "the first store finds a clean page").to.equal("moved");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    expect(await mapper.store("c"), "the page is dirty still").to.equal("unseen");
    await mapper[Symbol.asyncDispose]();
    expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
    await bench.until("the version", () => bench.paths("file.changed").length === 1);
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
    expect(readFileSync(file, "utf8")[0]).to.equal("c");
    const entry = bench.repository.current(path);
    expect(bench.monitor.registry.get("data", path)?.sha256).to.equal(entry?.node.sha256);
    const parts: Uint8Array[] = [];
    if (entry !== undefined) for await (const part of bench.repository.readContent(entry.node)) parts.push(part);
    expect(Buffer.concat(parts).toString("utf8")[0], "the newest version").to.equal("c");
    bench.clear();
    expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
    expect(bench.paths("file.changed"), "it is known now").to.deep.equal([]);
  });

  it("is not accused of rot as long as the mapping stands, however old the reading is", async () => {
    await using bench = await WatchBench.create({ nativeEvents: false });
    const file = await bench.folder.write("mapped.db", FIRST);
    const path = bench.folder.bytes("mapped.db");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    const mapper = await Mapper.of(file);
    try {
      const record = recordOf(bench, "mapped.db");
      bench.monitor.registry.put("data", path, { ...aged(record), sha256: "00".repeat(32) });
      expect(hasWriter(path, record.stat)).to.equal(true);
      expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
    } finally {
      await mapper[Symbol.asyncDispose]();
    }
    const report = await bench.monitor.scan({}, bench.signal.signal);
    expect(report.findings.map(({ kind }) => kind)).to.deep.equal(["bit_rot"]);
  });

  it("is read again once stores would show, so that its last ones are kept", async () => {
    const clock = new FakeClock(systemClock.nowMs());
    await using bench = await WatchBench.create({ clock, nativeEvents: false, times: { scrubMs: 7 * DAY_MS } });
    const pass = async (what: string, stepMs: number, isDone: () => boolean): Promise<void> => {
      for (let step = 0; !isDone(); step += 1) {
        if (step > 1000) throw new Error(`${what}: told ${bench.summary()}`);
        await clock.advance(stepMs);
        await delay(5); // reading is real
      }
    };
    const file = await bench.folder.write("mapped.db", FIRST);
    await using mapper = await Mapper.of(file);
    await mapper.store("b");
    const protecting = bench.protect();
    await pass("the first look", 50, () => bench.monitor.registry.totals("data").files === 1);
    await protecting;
    expect(await mapper.store("c")).to.equal("unseen");
    bench.clear();
    const knownMs = clock.nowMs();
    await pass("the version", 5000, () => bench.paths("file.changed").length === 1);
    const tookMs = clock.nowMs() - knownMs; // the fake clock goes on while it is read
    expect(tookMs, "not too early").to.be.at.least(unseenStoresMs() - 5000);
    expect(tookMs, "before the pause of the background reading ends").to.be.below(10 * SCRUB_TICK_MS);
    expect(bench.losses).to.deep.equal([]);
  });
});

/** The record as of a file whose content was read long after its ctime. */
function aged(record: RegistryRecord): RegistryRecord {
  return { ...record, lastVerifiedMs: systemClock.nowMs() + 2 * unseenStoresMs() };
}

function recordOf(bench: WatchBench, name: string): RegistryRecord {
  const record = bench.monitor.registry.get("data", bench.folder.bytes(name));
  if (record === undefined) throw new Error(`${name} is not registered`);
  return record;
}

describe("a file in memory", () => {
  it("is never called rotten: no store through a mapping moves anything there", async function () {
    const parent = fastTempParent();
    if (parent !== "/dev/shm") skip(this, "there is no /dev/shm to write to");
    await using folder = await TempFolder.create("memory", parent);
    await folder.write("file", "content");
    expect(hasTrueCtime(folder.bytes("file"))).to.equal(false);
    expect(hasTrueCtime(folder.bytes("not-there"))).to.equal(false);
  });

  it("is never called rotten below an overlay that writes to memory, and may be where it writes to a disk", async function () {
    requireRoot(this);
    requireTrueCtime(this);
    await using disk = await TempFolder.create("overlay");
    for (const name of ["lower", "upper", "work", "memory", "merged"]) await disk.folder(name);
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", disk.at("memory")]);
    try {
      for (const [upper, isTrue] of [
        ["memory/", false],
        ["", true],
      ] as const) {
        for (const name of ["upper", "work"]) await disk.folder(`${upper}${name}`);
        const [lowerdir, upperdir, workdir] = ["lower", `${upper}upper`, `${upper}work`].map((name) => disk.at(name));
        const options = `lowerdir=${lowerdir ?? ""},upperdir=${upperdir ?? ""},workdir=${workdir ?? ""}`;
        try {
          execFileSync("mount", ["-t", "overlay", "overlay", "-o", options, disk.at("merged")], { stdio: "ignore" });
        } catch {
          return skip(this, "no overlay can be mounted here");
        }
        await disk.write("merged/file", "content");
        expect(hasTrueCtime(disk.bytes("merged/file")), upperdir).to.equal(isTrue);
        execFileSync("umount", [disk.at("merged")]);
      }
    } finally {
      execFileSync("umount", ["-l", disk.at("memory")]);
    }
  });
});
