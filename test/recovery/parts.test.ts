/** The smaller parts of healing: gates, quarantine, processes' files, reports. */
import { spawn } from "node:child_process";
import { lstatSync, readdirSync } from "node:fs";
import { appendFile, chmod, link, readFile, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { once } from "node:events";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { expect } from "chai";
import { openAnchored } from "../../src/base/anchored.js";
import { systemClock } from "../../src/base/clock.js";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { PriorityLanes, RestoreMemory } from "../../src/recovery/gate.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import { DEFAULT_HEALER_SETTINGS } from "../../src/recovery/healer.js";
import { tupleOf } from "../../src/recovery/place-parents.js";
import { ProcessFiles } from "../../src/recovery/proc.js";
import { Quarantine } from "../../src/recovery/quarantine.js";
import { BatchCollector, REPORT_RESULTS_MAX, type RecoveryResult } from "../../src/recovery/report.js";
import { openFilesStrategy } from "../../src/recovery/strategies/open-files.js";
import { FakeClock } from "../support/fake-clock.js";
import { spawnHolder } from "../support/file-holder.js";
import { NEVER, lostFile, nodeAt } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { hasProgram, requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const PATH = "/data/a" as BytePath;
const DAY_MS = 86_400_000;

describe("the memory of restores", () => {
  it("opens the breaker again when time has passed", async () => {
    const clock = new FakeClock();
    const memory = new RestoreMemory(clock, DEFAULT_HEALER_SETTINGS);
    for (let count = 0; count < 3; count += 1) {
      expect(memory.breakerReason(PATH)).to.equal(undefined);
      memory.note(PATH, "itself");
    }
    expect(memory.breakerReason(PATH)).to.contain("3 times");
    await clock.advance(DEFAULT_HEALER_SETTINGS.breakerPathWindowMs + 1);
    expect(memory.breakerReason(PATH)).to.equal(undefined);
  });

  it("counts only what holdfast restored by itself for the total", () => {
    const memory = new RestoreMemory(new FakeClock(), DEFAULT_HEALER_SETTINGS);
    for (let count = 0; count < 1000; count += 1) memory.note(`/p${String(count)}` as BytePath, "person");
    expect(memory.breakerReason(PATH)).to.equal(undefined);
    for (let count = 0; count < 100; count += 1) memory.note(`/i${String(count)}` as BytePath, "itself");
    expect(memory.breakerReason(PATH)).to.contain("100 files");
  });
});

describe("priority lanes", () => {
  it("let the important in first, then the older, and never too many", async () => {
    const lanes = new PriorityLanes(2);
    const order: string[] = [];
    let running = 0;
    const work = (name: string) => async (): Promise<void> => {
      running += 1;
      expect(running).to.be.at.most(2);
      order.push(name);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    await Promise.all([
      lanes.run("low", work("first")),
      lanes.run("low", work("second")),
      lanes.run("low", work("low")),
      lanes.run("high", work("high")),
      lanes.run("critical", work("critical 1")),
      lanes.run("critical", work("critical 2")),
    ]);
    expect(order).to.deep.equal(["first", "second", "critical 1", "critical 2", "high", "low"]);
    expect(lanes.waitingCount).to.equal(0);
  });

  it("go on after a failure", async () => {
    const lanes = new PriorityLanes(1);
    const failed = lanes.run("high", () => Promise.reject(new Error("no")));
    const next = lanes.run("high", () => Promise.resolve("yes"));
    await rejection(failed);
    expect(await next).to.equal("yes");
  });
});

describe("the quarantine", () => {
  const folder = useTempFolder("quarantine");

  it("keeps a linked copy that later in-place writes of other names cannot reach", async () => {
    const quarantine = quarantineIn(Infinity, Infinity);
    await folder().write("data/alone", "damaged");
    await folder().write("data/shared", "damaged");
    await link(folder().at("data/shared"), folder().at("data/twin"));
    await keep(quarantine, "inc_1", "alone");
    await keep(quarantine, "inc_1", "shared");
    await appendFile(folder().at("data/twin"), " and changed");
    const items = await quarantine.items("inc_1");
    expect(await Promise.all(items.map((item) => readFile(item.file, "utf8")))).to.deep.equal(["damaged", "damaged"]);
    const about = readdirSync(folder().at("state/inc_1")).filter((name) => name.endsWith(".json"));
    const described = JSON.parse(await readFile(join(folder().at("state/inc_1"), about[0] ?? ""), "utf8")) as Record<
      string,
      unknown
    >;
    expect(described).to.include.keys("path", "incident", "mode", "uid", "mtime_ns", "kept_at", "reason");
  });

  it("remembers the metadata of what it copied", async () => {
    const quarantine = quarantineIn(Infinity, Infinity);
    await folder().write("data/a", "x");
    await link(folder().at("data/a"), folder().at("data/b"));
    await chmod(folder().at("data/a"), 0o4711);
    await utimes(folder().at("data/a"), 5, 5);
    await keep(quarantine, "inc_1", "a");
    const [item] = await quarantine.items("inc_1");
    expect([item?.node.mode, item?.node.stat.mtimeNs]).to.deep.equal([0o4711, 5_000_000_000n]);
  });

  it("refuses a file that is not the one that was judged", async () => {
    await folder().write("data/a", "x");
    const judged = tupleOf(lstatSync(folder().at("data/a"), { bigint: true }));
    await rm(folder().at("data/a"));
    await writeFile(folder().at("data/a"), "another");
    await using open = openAnchored(folder().bytes(), folder().bytes("data"));
    const quarantine = quarantineIn(Infinity, Infinity);
    expect(await rejection(quarantine.keep("inc_1", { folder: open, name: "a", judged }, ""))).to.have.property(
      "code",
      "TARGET_IO",
    );
    expect(await quarantine.items("inc_1")).to.deep.equal([]);
  });

  it("drops the oldest closed incidents beyond its limits, never an open one", async () => {
    for (const limits of [
      { sizeBytes: 0, ageMs: Infinity },
      { sizeBytes: Infinity, ageMs: -1 },
    ]) {
      const quarantine = quarantineIn(limits.sizeBytes, limits.ageMs);
      for (const id of ["inc_1", "inc_2"]) {
        await folder().write(`data/${id}`, "x");
        await keep(quarantine, id, id);
      }
      expect(await quarantine.prune((id) => id === "inc_1", NEVER)).to.deep.equal(["inc_2"]);
      expect(await quarantine.items("inc_1")).to.have.length.greaterThan(0);
    }
  });

  it("counts age from look to look: no clock that is set ahead makes what it keeps old, running or before a start", async () => {
    const clock = new FakeClock();
    const limits = { sizeBytesMax: Infinity, ageMsMax: 3 * DAY_MS };
    const quarantine = new Quarantine(folder().at("state"), clock, limits);
    await folder().write("data/a", "x");
    await keep(quarantine, "inc_1", "a");
    clock.jumpWall(30 * DAY_MS); // an open incident does not age
    expect(await quarantine.prune((id) => id === "inc_1", NEVER)).to.deep.equal([]);
    for (const lastsMs of [0, 365 * DAY_MS, -365 * DAY_MS, DAY_MS]) {
      clock.jumpWall(lastsMs);
      const started = new Quarantine(folder().at("state"), clock, limits);
      expect(await started.prune(() => false, NEVER)).to.deep.equal([]);
    }
    await truncate(folder().at("state-ages.json"), 9); // torn: begins anew
    for (let days = 0; days <= 3; days += 1) {
      expect(await quarantine.prune(() => false, NEVER)).to.deep.equal([]);
      clock.jumpWall(DAY_MS);
    }
    expect(await quarantine.prune(() => false, NEVER)).to.deep.equal(["inc_1"]);
  });

  it("counts anew when more is kept for an incident, as when a person undoes a heal that was long ago", async () => {
    const clock = new FakeClock();
    const quarantine = new Quarantine(folder().at("state"), clock, { sizeBytesMax: Infinity, ageMsMax: 3 * DAY_MS });
    await folder().write("data/a", "x");
    await keep(quarantine, "inc_1", "a");
    for (let days = 0; days <= 3; days += 1) {
      expect(await quarantine.prune(() => false, NEVER)).to.deep.equal([]);
      clock.jumpWall(DAY_MS);
    }
    await folder().write("data/b", "what stood there until now");
    await keep(quarantine, "inc_1", "b");
    expect(await quarantine.prune(() => false, NEVER)).to.deep.equal([]);
  });

  it("makes room although its ages cannot be noted: the disk may be full", async () => {
    const quarantine = quarantineIn(0, Infinity);
    await folder().write("data/a", "x");
    await keep(quarantine, "inc_1", "a");
    await folder().folder("state-ages.json"); // a folder in its place: nothing can be written there
    await rejection(quarantine.prune(() => false, NEVER));
    expect(await quarantine.items("inc_1")).to.deep.equal([]);
  });

  it("keeps all that its limits allow", async () => {
    const quarantine = quarantineIn(10_000, 60_000);
    await folder().write("data/a", "x");
    await keep(quarantine, "inc_1", "a");
    expect(await quarantine.prune(() => false, NEVER)).to.deep.equal([]);
  });

  function quarantineIn(sizeBytesMax: number, ageMsMax: number): Quarantine {
    return new Quarantine(folder().at("state"), systemClock, { sizeBytesMax, ageMsMax });
  }

  async function keep(quarantine: Quarantine, incident: string, name: string): Promise<void> {
    await using open = openAnchored(folder().bytes(), folder().bytes("data"));
    const judged = tupleOf(lstatSync(folder().at("data", name), { bigint: true }));
    await quarantine.keep(incident, { folder: open, name, judged }, "test");
  }
});

describe("files of processes", () => {
  const folder = useTempFolder("proc");

  it("are found when they are deleted and still open, with the name they had", async () => {
    const file = await folder().write("held file (deleted)\n.txt", "text");
    const { ino } = lstatSync(file, { bigint: true });
    const holder = await spawnHolder(file, "r");
    try {
      await rm(file);
      // By its inode: a program also holds what it got from the one that started it.
      const all = await new ProcessFiles(systemClock).deletedFiles(NEVER);
      const held = all.find((entry) => entry.pid === holder.pid && entry.ino === ino);
      expect(held).to.deep.include({
        path: folder().bytes("held file (deleted)\n.txt"),
        isWritable: false,
        sizeBytes: 4,
      });
      expect(await readFile(held?.link ?? "", "utf8")).to.equal("text");
    } finally {
      await holder.end();
    }
  });

  it("are found by a mapping as well as by a descriptor", async function () {
    requireRoot(this);
    if (!hasProgram("python3")) return skip(this, "not installed: python3");
    const file = await folder().write("mapped", "m".repeat(5000));
    const program =
      "import mmap,sys,os\nf=os.open(sys.argv[1],os.O_RDONLY)\nm=mmap.mmap(f,0,prot=mmap.PROT_READ)\nlibc=None\nprint('ready',flush=True)\nsys.stdin.read()";
    const child = spawn("python3", ["-c", program, file], { stdio: ["pipe", "pipe", "inherit"] });
    try {
      await once(child.stdout, "data");
      await rm(file);
      const held = await new ProcessFiles(systemClock).deletedFiles(NEVER);
      const mapping = held.find((entry) => entry.pid === child.pid && entry.how === "mapping");
      expect(await readFile(mapping?.link ?? "", "utf8")).to.equal("m".repeat(5000));
    } finally {
      child.stdin.end();
      await once(child, "exit");
    }
  });

  it("tells who has a file open for writing, and not who only reads", async () => {
    const file = await folder().write("a", "x");
    const { dev, ino } = lstatSync(file, { bigint: true });
    const processes = new ProcessFiles(systemClock);
    const reader = await spawnHolder(file, "r");
    expect(await processes.writersOf(dev, ino)).to.deep.equal([]);
    const writer = await spawnHolder(file, "a");
    expect((await processes.writersOf(dev, ino)).map((entry) => entry.pid)).to.deep.equal([writer.pid]);
    await reader.end();
    await writer.end();
  });

  it("are not taken for the lost one because they got its inode number after it was freed", async () => {
    const file = await folder().write("temporary", "another program's\n");
    const good = lastGoodOf(nodeAt(pathFromText(file)));
    const holder = await spawnHolder(file, "r");
    await rm(file);
    const offeredFor = async (ctimeNs: bigint): Promise<number> => {
      const lost = lostFile(folder().bytes("data/lost"), { ...good, stat: { ...good.stat, ctimeNs } });
      const search = { parameters: {}, note: () => undefined, scratchDir: folder().path };
      let count = 0;
      for await (const { sameInode } of openFilesStrategy(new ProcessFiles(systemClock)).find(lost, search, NEVER))
        if (sameInode === true) count += 1;
      return count;
    };
    expect(await offeredFor(good.stat.ctimeNs)).to.equal(1);
    expect(await offeredFor(good.stat.ctimeNs - 1_000_000_000n)).to.equal(0);
    await holder.end();
  });

  it("give no bytes of another file that its process has under the same number by now", async function () {
    requirePrograms(this, "python3");
    const [file, secret] = [await folder().write("lost", "lost\n"), await folder().write("secret", "secret\n")];
    const program =
      "import os,sys\nf=os.open(sys.argv[1],os.O_RDONLY)\nprint('open',flush=True)\nsys.stdin.readline()\nos.dup2(os.open(sys.argv[2],os.O_RDONLY),f)\nprint('other',flush=True)\nsys.stdin.read()";
    const holder = spawn("python3", ["-c", program, file, secret], { stdio: ["pipe", "pipe", "inherit"] });
    await once(holder.stdout, "data");
    const lost = lostFile(pathFromText(file), lastGoodOf(nodeAt(pathFromText(file))));
    await rm(file);
    const search = { parameters: {}, note: () => undefined, scratchDir: folder().path };
    const open: ((signal: AbortSignal) => AsyncIterable<Buffer>)[] = [];
    for await (const found of openFilesStrategy(new ProcessFiles(systemClock)).find(lost, search, NEVER))
      open.push((signal) => found.open(signal));
    const [openFirst = () => Readable.from([])] = open;
    const read = async (): Promise<string> => (await buffer(openFirst(NEVER))).toString();
    expect(await read()).to.equal("lost\n");
    holder.stdin.write("\n");
    await once(holder.stdout, "data");
    expect(await rejection(read())).to.have.property("code", "RECOVERY_FAILED");
    holder.stdin.end();
    await once(holder, "exit");
  });
});

describe("the batch report", () => {
  it("counts all, keeps a bounded number, failures first", () => {
    const collector = new BatchCollector(0);
    for (let index = 0; index < REPORT_RESULTS_MAX + 10; index += 1) collector.add(resultOf(index, "healed"));
    collector.add(resultOf(7, "failed"));
    const report = collector.report(1234);
    expect([report.healed, report.failed, report.pathsTotal]).to.deep.equal([1010, 1, 1011]);
    expect(report.results).to.have.length(REPORT_RESULTS_MAX);
    expect(report.results[0]?.outcome).to.equal("failed");
  });
});

function resultOf(index: number, outcome: RecoveryResult["outcome"]): RecoveryResult {
  return {
    path: "/data/a|" as BytePath,
    outcome,
    taken: { strategy: "latest_backup", origin: "v", identical: true, ageMs: 5000, sizeBytes: index, gaps: [] },
    durationMs: 1,
    candidates: [],
    searched: [],
    notes: [],
    manualCommands: [],
    message: "",
  };
}
