/** What counts as damage of a file that is still there. */
import { randomBytes } from "node:crypto";
import { appendFileSync, closeSync, openSync, readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import { unseenStoresMs } from "../../src/engine/rot.js";
import { SCRUB_TICK_MS } from "../../src/monitor/integrity.js";
import { lookAt } from "../../src/monitor/look.js";
import type { RegistryRecord } from "../../src/monitor/registry.js";
import { FakeClock } from "../support/fake-clock.js";
import { requireTrueCtime } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

const DAY_MS = 86_400_000;
const GOOD_JSON = JSON.stringify({ session_id: "a", messages: [{ role: "user", content: "hello" }] }, null, 2);

/** The record as of a file whose content was read long after its ctime: it missed no store through a mapping. */
function aged(record: RegistryRecord): RegistryRecord {
  return { ...record, lastVerifiedMs: systemClock.nowMs() + 2 * unseenStoresMs() };
}

describe("damage of protected files", () => {
  it("tells JSON and YAML that were valid and now are not, and each as good when it is mended", async () => {
    await using bench = await WatchBench.create();
    const json = await bench.folder.write("kb.json", GOOD_JSON);
    const yaml = await bench.folder.write("app.yaml", "a: 1\nb: [1, 2]\n");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(json, GOOD_JSON.slice(0, 40));
    writeFileSync(yaml, "a: [1, 2\nb: {\n");
    await bench.until("two damages", () => bench.losses.length === 2);
    await bench.quiet();
    expect(bench.losses.map(({ kind }) => kind)).to.deep.equal(["invalid_structure", "invalid_structure"]);
    expect(bench.paths("file.changed")).to.deep.equal([]);
    // The good version stays what is known.
    expect(bench.monitor.lastGood(bench.folder.bytes("kb.json"))?.stat.sizeBytes).to.equal(GOOD_JSON.length);
    writeFileSync(json, `${GOOD_JSON}\n`);
    await bench.until("it is good again", () => bench.paths("file.returned").includes("kb.json"));
    await bench.until("it is a version", () => bench.paths("file.changed").includes("kb.json"));
  });

  it("does not call damaged what never was valid", async () => {
    await using bench = await WatchBench.create();
    const commented = await bench.folder.write("tsconfig.json", '{\n // a comment\n "a": 1 }\n');
    const lines = await bench.folder.write("log.json", '{"a":1}\n{"a":2}\n');
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(commented, '{\n // another comment\n "a": 2 }\n');
    appendFileSync(lines, '{"a":3}\n');
    await bench.until("two changes", () => bench.paths("file.changed").length === 2);
    await bench.quiet(1000);
    expect(bench.losses).to.deep.equal([]);
  });

  it("tells an emptied file and a tail of NULs, after the grace", async () => {
    await using bench = await WatchBench.create();
    const emptied = await bench.folder.write("emptied.txt", "content ".repeat(100));
    const nulled = await bench.folder.write("nulled.bin", Buffer.alloc(4000, 7));
    await bench.protect();
    await bench.quiet();
    bench.clear();
    truncateSync(emptied, 0);
    writeFileSync(nulled, Buffer.concat([Buffer.alloc(2500, 7), Buffer.alloc(1500)]));
    await bench.until("two damages", () => bench.losses.length === 2);
    const kinds = new Map(bench.losses.map(({ path, kind }) => [path.split("/").at(-1), kind]));
    expect(Object.fromEntries(kinds)).to.deep.equal({ "emptied.txt": "truncated", "nulled.bin": "nul_tail" });
  });

  it("tells texts whose end a crash left as NULs, each by itself and none as an attack", async () => {
    await using bench = await WatchBench.create();
    const text = "A line that somebody needs.\n".repeat(100);
    const torn = [
      ["prefix.txt", Buffer.concat([Buffer.from(text.slice(0, 2000)), Buffer.alloc(800)])],
      ["short.txt", Buffer.concat([Buffer.from(text), Buffer.alloc(9)])],
      ["whole.txt", Buffer.alloc(text.length)],
      ["rewritten.txt", Buffer.concat([Buffer.from("another text\n".repeat(50)), Buffer.alloc(300)])],
    ] as const;
    for (const [name] of torn) await bench.folder.write(name, text);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    for (const [name, content] of torn) writeFileSync(bench.folder.at(name), content);
    await bench.until("all damages", () => bench.losses.length + bench.events("mass.loss").length === torn.length);
    await bench.quiet();
    expect(new Set(bench.losses.map(({ kind }) => kind))).to.deep.equal(new Set(["nul_tail"]));
    expect(bench.events("mass.loss")).to.deep.equal([]);
    expect(bench.paths("file.changed")).to.deep.equal([]);
  });

  it("does not call a NUL tail damage when the file always had one", async () => {
    await using bench = await WatchBench.create();
    const image = await bench.folder.write("disk.img", Buffer.alloc(8192));
    // tar fills its last 10 KiB up.
    const archive = await bench.folder.write("notes.tar", Buffer.concat([randomBytes(19_000), Buffer.alloc(1480)]));
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(image, Buffer.concat([Buffer.from("boot"), Buffer.alloc(8188)]));
    writeFileSync(archive, Buffer.concat([randomBytes(16_000), Buffer.alloc(4480)]));
    const isChanged = (name: string): boolean => bench.paths("file.changed").includes(name);
    await bench.until("the changes", () => isChanged("disk.img") && isChanged("notes.tar"));
    expect(bench.losses).to.deep.equal([]);
  });

  it("lets a writer finish that empties a file first and fills it within the grace", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("rewritten.txt", "old content");
    await bench.protect({ graceMs: 1500 });
    await bench.quiet();
    bench.clear();
    truncateSync(file, 0);
    await new Promise((resolve) => setTimeout(resolve, 700)); // longer than the rest, shorter than the grace
    writeFileSync(file, "new content");
    await bench.until("the change", () => bench.paths("file.changed").includes("rewritten.txt"));
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
  });

  it("checks the rules and the schema that the source names", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("kb.json", GOOD_JSON);
    const schemaFile = await bench.state.write(
      "schema.json",
      JSON.stringify({ type: "object", properties: { session_id: { type: "string" } } }),
    );
    const rules = { required: ["session_id"], items: { path: "messages", required: ["role", "content"] } };
    await bench.protect({
      validation: [
        {
          match: "kb*.json",
          checks: [
            { kind: "rules", rules },
            { kind: "schema", schemaFile },
          ],
        },
      ],
    });
    await bench.quiet();
    writeFileSync(file, JSON.stringify({ session_id: "a", messages: [{ role: "user" }] }));
    await bench.until("the first damage", () => bench.losses.length === 1);
    expect(bench.losses[0]).to.include({ kind: "schema_violation" });
    expect(bench.losses[0]?.detail).to.contain('lacks "content"');
    writeFileSync(file, GOOD_JSON);
    await bench.until("it is good again", () => bench.paths("file.returned").length === 1);
    await bench.quiet();
    writeFileSync(file, JSON.stringify({ session_id: 7, messages: [] }));
    await bench.until("the second damage", () => bench.losses.length === 2);
    expect(bench.losses[1]?.detail).to.contain("/session_id breaks the schema");
  });

  it("does not call damaged what breaks a rule that came later and that the good version breaks as well", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("kb.json", '{"a": 1}');
    await bench.protect();
    await bench.quiet();
    writeFileSync(file, '{"a": 2}'); // found valid as JSON, and remembered as such
    await bench.until("the version", () => bench.monitor.lastGood(bench.folder.bytes("kb.json"))?.valid === true);
    await bench.close();
    await bench.open();
    await bench.protect({
      validation: [{ match: "*.json", checks: [{ kind: "rules", rules: { required: ["b"] } }] }],
    });
    await bench.quiet();
    bench.clear();
    writeFileSync(file, '{"a": 3}');
    await bench.until("the change", () => bench.paths("file.changed").includes("kb.json"));
    await bench.quiet(800);
    expect(bench.losses).to.deep.equal([]);
  });

  it("runs the source's own command and takes a refusal as damage", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("site.conf", "server healthy\n");
    await bench.protect({
      validation: [{ match: "*.conf", checks: [{ kind: "command", command: ["grep", "-q", "healthy", "{file}"] }] }],
    });
    await bench.quiet();
    writeFileSync(file, "server broken\n");
    await bench.until("the damage", () => bench.losses.length === 1);
    expect(bench.losses[0]?.detail).to.equal("grep refused it (exit 1)");
  });

  it("takes content as it is when its owner accepts it", async () => {
    await using bench = await WatchBench.create();
    const file = await bench.folder.write("kb.json", GOOD_JSON);
    const path = bench.folder.bytes("kb.json");
    await bench.protect();
    await bench.quiet();
    bench.clear();
    writeFileSync(file, "no json any more");
    await bench.until("the damage", () => bench.losses.length === 1);
    await bench.monitor.acceptContent(path, "denied");
    await bench.until("it is registered", () => bench.monitor.registry.get("data", path)?.state === "live");
    expect(bench.repository.current(path)?.node.stat.sizeBytes).to.equal(16);
    expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
  });

  describe("found by a scan", () => {
    it("finds what is missing and what is broken, and nothing else", async () => {
      await using bench = await WatchBench.create({ nativeEvents: false });
      const [gone, broken] = [await bench.folder.write("gone.txt", "x"), await bench.folder.write("b.json", GOOD_JSON)];
      await bench.folder.write("fine.txt", "fine");
      await bench.protect();
      await bench.quiet();
      expect(bench.monitor.status()[0]?.ears).to.equal("sweep");
      (await import("node:fs")).unlinkSync(gone);
      writeFileSync(broken, "{");
      const report = await bench.monitor.scan({}, bench.signal.signal);
      expect(report.filesChecked).to.equal(3);
      expect(report.findings.map(({ kind }) => kind)).to.deep.equal(["invalid_structure", "deleted"]);
      const part = await bench.monitor.scan({ path: bench.folder.bytes("fine.txt") }, bench.signal.signal);
      expect(part).to.deep.equal({ filesChecked: 1, findings: [] });
      await bench.until("both are told", () => bench.losses.length === 2);
      expect(bench.losses.every(({ noticedBy }) => noticedBy === "scan")).to.equal(true);
    });

    it("finds bit rot, and does not take a rewrite of the same size and time for it", async function () {
      requireTrueCtime(this);
      await using bench = await WatchBench.create({ nativeEvents: false });
      const [rotten, rewritten] = ["rotten.bin", "rewritten.bin"].map((name) => bench.folder.at(name));
      await bench.folder.write("rotten.bin", "good bytes");
      await bench.folder.write("rewritten.bin", "good bytes");
      const time = new Date(1_700_000_000_000);
      for (const file of [rotten!, rewritten!]) utimesSync(file, time, time);
      await bench.protect();
      await bench.quiet();
      bench.clear();
      // What a failing disk does, bytes changing under the same stat, is staged by giving the registry the new stat.
      for (const file of [rotten!, rewritten!]) {
        writeFileSync(file, "evil bytes");
        utimesSync(file, time, time);
      }
      const path = bench.folder.bytes("rotten.bin");
      const [record, look] = [bench.monitor.registry.get("data", path), lookAt(path)];
      if (record === undefined || look.is !== "there") throw new Error("the file is not registered");
      bench.monitor.registry.put("data", path, aged({ ...record, stat: look.node.stat }));
      const report = await bench.monitor.scan({}, bench.signal.signal);
      expect(report.findings.map(({ path: found, kind }) => [found, kind])).to.deep.equal([[path, "bit_rot"]]);
      await bench.until("the rewrite is a change", () => bench.paths("file.changed").includes("rewritten.bin"));
      expect(bench.losses.map(({ kind }) => kind)).to.deep.equal(["bit_rot"]);
      expect(readFileSync(rotten!, "utf8")).to.equal("evil bytes");
    });

    it("does not accuse a file of rot while somebody has it open for writing", async function () {
      requireTrueCtime(this);
      await using bench = await WatchBench.create({ nativeEvents: false });
      const file = await bench.folder.write("open.bin", "good bytes");
      const path = bench.folder.bytes("open.bin");
      await bench.protect();
      await bench.quiet();
      const { spawn } = await import("node:child_process");
      const writer = spawn("sh", ["-c", `exec 3>>'${file}'; echo ready; read line`], {
        stdio: ["pipe", "pipe", "ignore"],
      });
      await new Promise((resolve) => writer.stdout.once("data", resolve));
      closeSync(openSync(file, "r"));
      const record = bench.monitor.registry.get("data", path);
      if (record === undefined) throw new Error("the file is not registered");
      bench.monitor.registry.put("data", path, aged({ ...record, sha256: "00".repeat(32) }));
      expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.deep.equal([]);
      writer.stdin.end("\n");
      await new Promise((resolve) => writer.once("exit", resolve));
      expect((await bench.monitor.scan({}, bench.signal.signal)).findings).to.have.length(1);
    });

    it("reads many small files again little by little, not all at once", async function () {
      requireTrueCtime(this);
      const clock = new FakeClock(systemClock.nowMs());
      await using bench = await WatchBench.create({ clock, nativeEvents: false, times: { scrubMs: 7 * DAY_MS } });
      for (let index = 0; index < 600; index += 1) await bench.folder.write(`f${String(index)}`, "");
      const protecting = bench.protect();
      for (let step = 0; bench.monitor.registry.totals("data").files < 600; step += 1) {
        if (step > 500) throw new Error(`the first look: told ${bench.summary()}`);
        await clock.advance(50);
        await delay(5); // reading is real
      }
      await protecting;
      let before = new Map<BytePath, number>();
      /** How many files the next portion reads. */
      const portion = async (): Promise<number> => {
        await clock.advance(SCRUB_TICK_MS);
        await bench.monitor.scrubbed();
        const now = new Map<BytePath, number>();
        for await (const page of bench.monitor.registry.entries("data"))
          for (const { path, record } of page) if (record.kind === "file") now.set(path, record.lastVerifiedMs);
        const read = [...now].filter(([path, readingMs]) => readingMs !== before.get(path)).length;
        before = now;
        return read;
      };
      const portions = async (count: number): Promise<readonly number[]> => {
        const read: number[] = [];
        while (read.length < count) read.push(await portion());
        return read;
      };
      await portion();
      const soon = (await portions(6)).filter((read) => read > 0);
      expect(soon, "what was read too soon before").to.deep.equal([500, 100]);
      clock.jumpWall(8 * DAY_MS);
      expect(await portions(2), "500 with the folder").to.deep.equal([499, 101]);
    });

    it("reads everything again in the background within its deadline, the rotten one included", async function () {
      requireTrueCtime(this);
      const clock = new FakeClock(systemClock.nowMs());
      await using bench = await WatchBench.create({ clock, nativeEvents: false, times: { scrubMs: 7 * DAY_MS } });
      const pass = async (what: string, stepMs: number, isDone: () => boolean): Promise<void> => {
        for (let step = 0; !isDone(); step += 1) {
          if (step > 1000) throw new Error(`${what}: told ${bench.summary()}`);
          await clock.advance(stepMs);
          await delay(5); // reading is real
        }
      };
      const names = ["f0", "f1", "f2", "f3", "f4"];
      for (const [index, name] of names.entries()) await bench.folder.write(name, Buffer.alloc(3 * 2 ** 20, index));
      const protecting = bench.protect();
      await pass("the first look", 50, () => bench.monitor.registry.totals("data").files === 5);
      await protecting;
      const record = (name: string): RegistryRecord => {
        const known = bench.monitor.registry.get("data", bench.folder.bytes(name));
        if (known === undefined) throw new Error(`${name} is not registered`);
        return known;
      };
      bench.monitor.registry.put("data", bench.folder.bytes("f4"), aged({ ...record("f4"), sha256: "00".repeat(32) }));
      await pass("two portions", 10_000, () => clock.monotonicMs() > 150_000);
      expect(bench.losses, "everything was verified lately").to.deep.equal([]);
      clock.jumpWall(8 * DAY_MS);
      const jumpedMs = clock.nowMs();
      await pass("the rot", 1000, () => bench.losses.length === 1);
      expect(bench.losses[0]).to.include({ kind: "bit_rot", noticedBy: "scrub", path: bench.folder.bytes("f4") });
      // A pass goes on where the one before ended, so the sound ones may come after.
      const sound = names.slice(0, 4);
      await pass("the others", 1000, () => sound.every((name) => record(name).lastVerifiedMs >= jumpedMs));
      expect(clock.nowMs() - jumpedMs).to.be.below(7 * DAY_MS);
    });
  });

  it("is found in the background though a clock that was ahead by a year says that it was just read", async function () {
    requireTrueCtime(this);
    const clock = new FakeClock(systemClock.nowMs());
    await using bench = await WatchBench.create({ clock, nativeEvents: false, times: { scrubMs: 7 * DAY_MS } });
    await bench.folder.write("f", "sound");
    const until = async (stepMs: number, isDone: () => boolean): Promise<void> => {
      for (let step = 0; !isDone(); step += 1) {
        if (step > 300) throw new Error(`told ${bench.summary()}`);
        await clock.advance(stepMs);
        await delay(2); // reading is real
      }
    };
    const protecting = bench.protect();
    await until(50, () => bench.monitor.registry.totals("data").files === 1);
    await protecting;
    await until(10_000, () => clock.monotonicMs() > 150_000); // what was read too soon after it was written was read again
    const path = bench.folder.bytes("f");
    const record = bench.monitor.registry.get("data", path);
    if (record === undefined) throw new Error("it is not registered");
    const lastVerifiedMs = clock.nowMs() + 365 * DAY_MS;
    bench.monitor.registry.put("data", path, { ...record, lastVerifiedMs, sha256: "00".repeat(32) });
    await until(60_000, () => bench.losses.length === 1);
    expect(bench.losses[0]).to.include({ kind: "bit_rot", noticedBy: "scrub" });
  });

  it("is a value that another file has already, when a rule says that no two files share it", async () => {
    await using bench = await WatchBench.create();
    const conversation = (id: string, text: string): string => JSON.stringify({ session_id: id, messages: [text] });
    for (const id of ["a", "b", "c", "e"]) await bench.folder.write(`${id}.json`, conversation(id, "hello"));
    await bench.folder.write("twin.json", conversation("a", "as it always was"));
    const rules = { uniqueAcrossFiles: ["session_id"] };
    await bench.protect({ validation: [{ match: "*.json", checks: [{ kind: "rules", rules }] }] });
    await bench.quiet();
    bench.clear();
    await bench.folder.write("b.json", conversation("c", "hello"));
    await bench.folder.write("twin.json", conversation("a", "an edit of a file that shared its id before"));
    await bench.folder.write("e.json", conversation("d", "a new id of its own"));
    await bench.until("all are judged", () => bench.losses.length > 0 && bench.paths("file.changed").length === 2);
    await bench.quiet();
    const told = bench.losses.map(({ path, kind, detail }) => [path.slice(bench.folder.path.length + 1), kind, detail]);
    const place = bench.folder.at("c.json");
    expect(told).to.deep.equal([["b.json", "schema_violation", `a value of session_id is in ${place} too`]]);
    expect([...bench.paths("file.changed")].sort()).to.deep.equal(["e.json", "twin.json"]);
  });
});
