/** The registry of protected files: bytes of its records, ranges, counting, what survives. */
import { expect } from "chai";
import fc from "fast-check";
import { Level } from "level";
import type { BytePath } from "../../src/base/paths.js";
import { DAMAGE_KINDS } from "../../src/base/events.js";
import { NODE_KINDS } from "../../src/engine/types.js";
import { Pauses } from "../../src/monitor/pauses.js";
import { REGISTRY_STATES, type RegistryRecord, decodeRecord, encodeRecord } from "../../src/monitor/registry-record.js";
import { type ReadPath, Registry, monitorSublevel } from "../../src/monitor/registry.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const hex = (bytes: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((value) => Buffer.from(value).toString("hex"));
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const recordArb: fc.Arbitrary<RegistryRecord> = fc
  .record({
    kind: fc.constantFrom(...NODE_KINDS),
    state: fc.constantFrom(...REGISTRY_STATES),
    stat: fc.record({
      dev: u64,
      ino: u64,
      sizeBytes: fc.maxSafeNat(),
      mtimeNs: fc.bigInt({ min: -(2n ** 74n), max: 2n ** 74n }),
      ctimeNs: i64,
    }),
    mode: fc.nat({ max: 0o7777 }),
    uid: fc.nat({ max: 2 ** 32 - 1 }),
    gid: fc.nat({ max: 2 ** 32 - 1 }),
    linkCount: fc.nat({ max: 2 ** 32 - 1 }),
    valid: fc.constantFrom(true, false, undefined),
    registeredAtMs: fc.maxSafeNat(),
    lastVerifiedMs: fc.maxSafeNat(),
    healedAtMs: fc.maxSafeNat(),
  })
  .chain((base) =>
    fc
      .record(
        {
          sha256: hex(32),
          gitBlobId: hex(20),
          linkTarget: fc.string(),
          lossKind: fc.constantFrom(...DAMAGE_KINDS),
          damagedStamp: fc.string(),
          reason: fc.string(),
        },
        { requiredKeys: [] },
      )
      .map((rare) => ({ ...base, ...rare })),
  );

describe("a registry record", () => {
  it("comes back from its bytes as it went", () => {
    fc.assert(
      fc.property(recordArb, (record) => {
        expect(decodeRecord(encodeRecord(record))).to.deep.equal({ ...record });
      }),
    );
  });

  it("is unknown, and never an exception, when the bytes are damaged or foreign", () => {
    fc.assert(
      fc.property(recordArb, fc.uint8Array(), fc.nat(), (record, noise, cut) => {
        decodeRecord(Buffer.from(noise));
        const bytes = encodeRecord(record);
        decodeRecord(bytes.subarray(0, cut % bytes.length));
        expect(decodeRecord(Buffer.concat([Buffer.from([9]), bytes.subarray(1)]))).to.equal(undefined);
      }),
    );
  });
});

describe("the registry", () => {
  const folder = useTempFolder();
  let database: Level | undefined;
  const open = async (): Promise<Registry> => {
    database ??= new Level(folder().at("index"));
    return await Registry.open(monitorSublevel(database));
  };
  afterEach(async () => {
    await database?.close();
    database = undefined;
  });
  const at = (path: string): BytePath => path as BytePath;
  const record = (sizeBytes = 1, kind: RegistryRecord["kind"] = "file"): RegistryRecord => ({
    kind,
    state: "live",
    stat: { dev: 1n, ino: 2n, sizeBytes, mtimeNs: 3n, ctimeNs: 4n },
    mode: 0o644,
    uid: 0,
    gid: 0,
    linkCount: 1,
    valid: undefined,
    registeredAtMs: 1,
    lastVerifiedMs: 1,
    healedAtMs: 0,
  });
  const pathsOf = async (pages: AsyncIterable<readonly { readonly path: BytePath }[]>): Promise<string[]> => {
    const paths: string[] = [];
    for await (const page of pages) paths.push(...page.map(({ path }) => path));
    return paths;
  };

  it("reads at once what was put, and again after a restart, counted", async () => {
    const registry = await open();
    registry.put("a", at("/x"), record(10));
    registry.put("a", at("/x"), record(30));
    registry.put("a", at("/y"), record(5));
    registry.put("a", at("/d"), record(0, "folder"));
    expect(registry.get("a", at("/x"))?.stat.sizeBytes).to.equal(30);
    expect(registry.totals("a")).to.deep.equal({ files: 2, bytes: 35 });
    registry.forget("a", at("/y"));
    registry.put("a", at("/x"), { ...record(30), state: "lost" });
    expect(registry.totals("a")).to.deep.equal({ files: 0, bytes: 0 });
    await registry[Symbol.asyncDispose]();
    const again = await open();
    expect(again.get("a", at("/x"))?.state).to.equal("lost");
    expect(again.get("a", at("/y"))).to.equal(undefined);
    expect(again.totals("a")).to.deep.equal({ files: 0, bytes: 0 });
  });

  it("marks what was deleted at once, counted, beside what is known, and after a restart", async () => {
    const registry = await open();
    const names = Array.from({ length: 5000 }, (_, index) => at(`/f${String(index)}`));
    for (const name of names) registry.put("a", name, { ...record(2), sha256: "ab".repeat(32) });
    await registry.flush();
    const gone = names.flatMap((path) => {
      const known = registry.read("a", path);
      return known === undefined ? [] : [{ path, ...known }];
    });
    registry.markDeleted("a", gone.slice(1), "deleted");
    const expectMarked = (of: Registry): void => {
      expect(of.get("a", at("/f1"))).to.include({ state: "lost", lossKind: "deleted", sha256: "ab".repeat(32) });
      expect(of.totals("a")).to.deep.equal({ files: 1, bytes: 2 });
      expect(of.lostCount("a")).to.equal(4999);
    };
    expectMarked(registry);
    expect((await registry.getMany("a", names.slice(0, 3))).map((one) => one?.state)).to.deep.equal([
      "live",
      "lost",
      "lost",
    ]);
    await registry[Symbol.asyncDispose]();
    expectMarked(await open());
  });

  it("marks as deleted what is known now, whatever was known when it was read", async () => {
    const registry = await open();
    registry.put("a", at("/newer"), record(1));
    registry.put("a", at("/forgotten"), record(1));
    await registry.flush();
    const gone = [at("/newer"), at("/forgotten")].flatMap((path) => {
      const known = registry.read("a", path);
      return known === undefined ? [] : [{ path, ...known }];
    });
    registry.put("a", at("/newer"), record(700));
    registry.forget("a", at("/forgotten"));
    await registry.flush();
    registry.markDeleted("a", gone, "deleted");
    expect(registry.get("a", at("/newer"))).to.deep.include({ state: "lost", stat: record(700).stat });
    expect(registry.get("a", at("/forgotten"))).to.equal(undefined);
    expect([registry.totals("a").files, registry.lostCount("a")]).to.deep.equal([0, 1]);
    registry.put("a", at("/newer"), record(3)); // what stands for the deletion may still wait
    await registry.flush();
    expect(registry.get("a", at("/newer"))?.state).to.equal("live");
  });

  it("is what its calls make of it, whatever was read long before and however its writes to the disk fall between", async () => {
    const step = fc.record({
      act: fc.constantFrom("put", "put", "forget", "read", "list", "mark", "mark", "flush", "turn"),
      name: fc.nat({ max: 5 }),
      number: fc.nat({ max: 9 }),
    });
    const paths = [0, 1, 2, 3, 4, 5].map((name) => at(`/f${String(name)}`));
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const registry = await open();
        const source = `s${String(runs++)}`;
        const model = new Map<BytePath, string>();
        const read = new Map<BytePath, ReadPath>();
        const flushes: Promise<void>[] = [];
        const expectModel = async (of: Registry): Promise<void> => {
          const states = [...model.values()];
          const shown = (one: RegistryRecord | undefined): string | undefined =>
            one === undefined ? undefined : `${one.state} ${String(one.stat.sizeBytes)}`;
          const wanted = paths.map((path) => model.get(path));
          expect(paths.map((path) => shown(of.get(source, path)))).to.deep.equal(wanted);
          expect((await of.getMany(source, paths)).map(shown)).to.deep.equal(wanted);
          expect(of.lostCount(source)).to.equal(states.filter((state) => state.startsWith("lost")).length);
          const live = states.filter((state) => state.startsWith("live")).map((state) => Number(state.slice(5)));
          expect(of.totals(source)).to.deep.equal({
            files: live.length,
            bytes: live.reduce((sum, one) => sum + one, 0),
          });
        };
        type Acts = Readonly<Record<string, (path: BytePath, number: number) => void | Promise<void>>>;
        const acts: Acts = {
          put: (path, sizeBytes) => {
            registry.put(source, path, record(sizeBytes));
            model.set(path, `live ${String(sizeBytes)}`);
          },
          forget: (path) => {
            registry.forget(source, path);
            model.delete(path);
          },
          read: (path) => {
            const known = registry.read(source, path);
            if (known !== undefined) read.set(path, { path, ...known });
          },
          list: async () => {
            for await (const page of registry.entries(source)) for (const known of page) read.set(known.path, known);
          },
          mark: (_path, count) => {
            const gone = [...read.values()].slice(0, count + 1);
            registry.markDeleted(source, gone, "deleted");
            for (const { path } of gone) {
              const state = model.get(path);
              if (state !== undefined) model.set(path, state.replace("live", "lost"));
            }
          },
          flush: () => void flushes.push(registry.flush()),
          turn: async () => {
            await new Promise((resolve) => setImmediate(resolve));
            await expectModel(registry);
          },
        };
        for (const { act, name, number } of steps) await acts[act]?.(at(`/f${String(name)}`), number);
        await expectModel(registry);
        await Promise.all(flushes);
        await registry[Symbol.asyncDispose]();
        const again = await open();
        await expectModel(again);
        await again.forgetSource(source);
      }),
      { numRuns: process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 1000 : 60 },
    );
  });

  it("tells that a record may be old from its write on, also when very many were written since", async () => {
    const registry = await open();
    const [mine, other] = [at("/mine"), at("/other")];
    registry.put("a", mine, record(1));
    const asOf = registry.read("a", mine)?.asOf ?? -1;
    registry.put("a", other, record(1));
    expect([registry.isCurrent("a", mine, asOf), registry.isCurrent("a", other, asOf)]).to.deep.equal([true, false]);
    for (let index = 0; index < 20_000; index += 1) registry.put("a", at(`/x${String(index)}`), record(1));
    expect(registry.isCurrent("a", mine, asOf)).to.equal(false);
    expect(registry.isCurrent("a", mine, registry.moment)).to.equal(true);
    await registry[Symbol.asyncDispose]();
  });

  it("knows through which commit it holds a source, no further than its records, until the source is forgotten", async () => {
    const registry = await open();
    expect(await registry.heldThrough("a")).to.equal(undefined);
    registry.put("a", at("/x"), record());
    const seven = { seq: 7, generation: "one" };
    const nine = { seq: 9, generation: "one" };
    registry.holdsThrough("a", seven);
    registry.holdsThrough("b", nine);
    expect(await registry.heldThrough("a")).to.deep.equal(seven);
    await registry[Symbol.asyncDispose]();
    const again = await open();
    expect([await again.heldThrough("a"), await again.heldThrough("b")]).to.deep.equal([seven, nine]);
    await again.forgetSource("a");
    expect([await again.heldThrough("a"), await again.heldThrough("b")]).to.deep.equal([undefined, nine]);
  });

  it("gives ranges in byte order, for names of any bytes, and keeps sources apart", async () => {
    const registry = await open();
    const names = ["/r", "/r-b", "/r/a", "/r/a-z", "/r/a/b", "/r/a/b/c", "/r/\xff", "/r0"];
    for (const name of [...names].reverse()) registry.put("one", at(name), record());
    registry.put("one-more", at("/r/a"), record());
    registry.put("on", at("/r/a"), record());
    expect(await pathsOf(registry.entries("one"))).to.deep.equal(names);
    expect(await pathsOf(registry.entries("one", at("/r")))).to.deep.equal([
      "/r/a",
      "/r/a-z",
      "/r/a/b",
      "/r/a/b/c",
      "/r/\xff",
    ]);
    expect(await pathsOf(registry.entriesAfter("one", at("/r/a/b")))).to.deep.equal(["/r/a/b/c", "/r/\xff", "/r0"]);
    const children: string[] = [];
    for await (const { path } of registry.children("one", at("/r"))) children.push(path);
    expect(children).to.deep.equal(["/r/a", "/r/a-z", "/r/\xff"]);
    await registry.forgetSource("one");
    expect(await pathsOf(registry.entries("one"))).to.deep.equal([]);
    expect(await pathsOf(registry.entries("one-more"))).to.deep.equal(["/r/a"]);
  });

  it("gives the direct names of any folder, whatever the tree", async () => {
    const registry = await open();
    const nameArb = fc.stringMatching(/^[!-.0-~]{1,3}$/);
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.array(nameArb, { minLength: 1, maxLength: 4 }).map((names) => `/${names.join("/")}`)),
        async (paths) => {
          const source = `s${String((round += 1))}`;
          for (const path of paths) registry.put(source, at(path), record());
          for (const parent of ["/", ...paths]) {
            const prefix = parent === "/" ? "/" : `${parent}/`;
            const expected = paths.filter(
              (path) => path.startsWith(prefix) && !path.slice(prefix.length).includes("/"),
            );
            const found: string[] = [];
            for await (const { path } of registry.children(source, at(parent))) found.push(path);
            expect(found).to.deep.equal(expected.sort());
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  it("holds 50,000 paths and finds each", async () => {
    const registry = await open();
    for (let index = 0; index < 50_000; index += 1) {
      registry.put("big", at(`/d/${String(index)}`), record(index));
      if (index % 1000 === 0) await registry.room();
    }
    expect(registry.totals("big").files).to.equal(50_000);
    for (const index of [0, 1, 49_999])
      expect(registry.get("big", at(`/d/${String(index)}`))?.stat.sizeBytes).to.equal(index);
    expect(await pathsOf(registry.entries("big"))).to.have.length(50_000);
  });

  it("keeps pauses across restarts until they end", async () => {
    const clock = new FakeClock(10_000);
    database = new Level(folder().at("index"));
    const store = monitorSublevel(database);
    const pauses = await Pauses.open(store, clock);
    await pauses.begin({ path: at("/a"), untilMs: 1000, reason: "one" });
    await pauses.begin({ path: undefined, untilMs: 500, reason: "all" });
    const again = await Pauses.open(store, clock);
    expect(again.covering(at("/b"), 100)?.reason).to.equal("all");
    expect(again.covering(at("/b"), 600)).to.equal(undefined);
    expect(again.covering(at("/a/x"), 600)?.reason).to.equal("one");
    expect(again.covering(at("/ab"), 600)).to.equal(undefined);
    expect(await again.end(at("/a"), 100)).to.have.length(1);
    expect(again.open(100).map(({ reason }) => reason)).to.deep.equal(["all"]);
  });

  it("remembers pauses that ended while nobody looked, until all sources were looked through long enough since", async () => {
    const clock = new FakeClock(10_000);
    database = new Level(folder().at("index"));
    const store = monitorSublevel(database);
    await (await Pauses.open(store, clock)).begin({ path: at("/a"), untilMs: 1000, reason: "one" });
    const pauses = await Pauses.open(store, clock);
    const unseen = () => [
      pauses.endedUnseen(at("/a/x"), "first")?.reason,
      pauses.endedUnseen(at("/b"), "first")?.reason,
    ];
    expect(unseen()).to.deep.equal(["one", undefined]);
    for (const [source, sinceMs] of [
      ["first", 2000],
      ["second", 3000],
      ["first", 99_000],
    ] as const)
      await pauses.looked(source, sinceMs);
    expect(unseen(), "the second was not looked through since").to.deep.equal(["one", undefined]);
    await pauses.looked("second", 99_000);
    expect(unseen()).to.deep.equal([undefined, undefined]);
    expect((await Pauses.open(store, clock)).endedUnseen(at("/a"), "first")).to.equal(undefined);
  });
});
