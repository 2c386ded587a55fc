/** The write-ahead log: what is acknowledged survives any cut, nothing else counts, faults are survived. */
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import { HoldfastError } from "../../src/base/errors.js";
import { silentObserver } from "../../src/base/observe.js";
import { RecordSealer, type SealedRecord } from "../../src/engine/pack/record.js";
import { LOG_START, replayLog, type ReplayedCommit, type WalReplay, WriteAheadLog } from "../../src/engine/wal/log.js";
import { codeOf, NEVER, noise, testKeys } from "../support/engine-keys.js";
import { FaultIo, type IoCall } from "../support/fault-io.js";
import { useTempFolder } from "../support/temp-folder.js";

const KEYS = testKeys();

describe("write-ahead log", () => {
  const folder = useTempFolder("wal");
  const sealer = new RecordSealer(KEYS);

  function openLog(options: { io?: FaultIo; segmentBytesMax?: number; from?: WalReplay } = {}): WriteAheadLog {
    const { io, segmentBytesMax, from } = options;
    return new WriteAheadLog(
      {
        folder: folder().at("wal"),
        keys: KEYS,
        observer: silentObserver,
        ...(io === undefined ? {} : { io }),
        ...(segmentBytesMax === undefined ? {} : { segmentBytesMax }),
        ...(from === undefined ? {} : { segments: from.segments }),
      },
      from?.end ?? LOG_START,
    );
  }

  function recordsOf(text: string): SealedRecord[] {
    return [sealer.seal("chunk", Buffer.from(`chunk of ${text}`), "none")];
  }

  async function append(log: WriteAheadLog, text: string) {
    return await log.append({ records: recordsOf(text), payload: Buffer.from(text) }, NEVER);
  }

  async function replay(): Promise<WalReplay & { commits: ReplayedCommit[]; texts: string[] }> {
    const commits: ReplayedCommit[] = [];
    const result = await replayLog(
      { folder: folder().at("wal"), keys: KEYS },
      (commit) => void commits.push(commit),
      NEVER,
    );
    return { ...result, commits, texts: commits.map(({ payload }) => payload.toString()) };
  }

  it("gives back every commit in order, with its records and their places", async () => {
    await using log = openLog();
    const receipts = [await append(log, "a"), await append(log, "b")];
    const receipt = await log.append({ records: [], payload: Buffer.alloc(0) }, NEVER);
    const { commits, end, damage, tornBytes } = await replay();
    expect(commits.map(({ seq }) => seq)).to.deep.equal([1, 2, 3]);
    expect(commits[0]!.records[0]!.place).to.deep.equal(receipts[0]!.places[0]);
    expect(commits[1]!.frame).to.deep.equal(receipts[1]!.frame);
    expect(commits[2]!.payload.length).to.equal(0);
    expect(receipt.seq).to.equal(3);
    expect(end).to.deep.equal(log.position);
    expect(damage).to.deep.equal([]);
    expect(tornBytes).to.equal(0);
  });

  it("is empty when there is no folder", async () => {
    const { texts, end } = await replay();
    expect(texts).to.deep.equal([]);
    expect(end).to.deep.equal(LOG_START);
  });

  it("acknowledges only after the datasync, and syncs once for all that wait", async () => {
    const io = new FaultIo();
    const gate = deferred<undefined>();
    io.beforeDatasync = async () => {
      await gate.promise;
    };
    await using log = openLog({ io });
    const acknowledged: string[] = [];
    const first = append(log, "first").then(() => acknowledged.push("first"));
    while (!io.calls.some(({ call }) => call === "write")) await new Promise(setImmediate);
    const rest = ["b", "c", "d"].map((text) => append(log, text).then(() => acknowledged.push(text)));
    await new Promise(setImmediate);
    expect(acknowledged).to.deep.equal([]);
    gate.resolve(undefined);
    await Promise.all([first, ...rest]);
    expect(acknowledged).to.deep.equal(["first", "b", "c", "d"]);
    expect(io.calls.filter(({ call }) => call === "datasync").length).to.equal(2);
    expect((await replay()).texts).to.deep.equal(["first", "b", "c", "d"]);
  });

  it("writes nothing any more once it was found to be another's: a shorter commit over a refused one is no damage", async () => {
    let isMine = true;
    const assertMine = (): void => {
      if (!isMine) throw new HoldfastError("REPO_LOCKED", "another process has taken over");
    };
    const options = { folder: folder().at("wal"), keys: KEYS, observer: silentObserver, assertMine };
    await using log = new WriteAheadLog(options, LOG_START);
    await append(log, "acknowledged");
    isMine = false;
    expect(await codeOf(append(log, noise(5000, 1).toString("base64")))).to.equal("REPO_LOCKED");
    const before = await readFile(log.segmentPath(1));
    for (let times = 0; times < 5; times += 1) expect(await codeOf(append(log, "short"))).to.equal("REPO_LOCKED");
    await log.rotate();
    expect(await codeOf(append(log, "in a new segment"))).to.equal("REPO_LOCKED");
    expect((await readFile(log.segmentPath(1))).equals(before)).to.equal(true);
    const { damage, texts, segments } = await replay();
    expect([damage, texts[0], segments.length]).to.deep.equal([[], "acknowledged", 1]);
  });

  it("makes the segment's name durable before the first acknowledgement", async () => {
    const io = new FaultIo();
    await using log = openLog({ io });
    await append(log, "a");
    const order = io.calls.map(({ call }) => call);
    expect(order.lastIndexOf("syncFolder")).to.be.greaterThan(order.indexOf("create"));
    expect(order.lastIndexOf("syncFolder")).to.be.lessThan(order.indexOf("datasync"));
  });

  it("opens after a cut at any byte to exactly the commits that were whole", async () => {
    const ends: number[] = [];
    const log = openLog();
    for (const text of ["one", "two", "three"]) {
      const { frame } = await append(log, text);
      ends.push(frame.offsetBytes + frame.recordBytes);
    }
    const path = log.segmentPath(1);
    await log[Symbol.asyncDispose]();
    const whole = await readFile(path);
    for (let length = 0; length <= whole.length; length += 1) {
      await writeFile(path, whole.subarray(0, length));
      const { commits, damage, end } = await replay();
      const expected = ends.filter((frameEnd) => frameEnd <= length).length;
      expect(commits.length, `cut at ${length}`).to.equal(expected);
      expect(end.nextSeq).to.equal(expected + 1);
      if (length >= 80) expect(damage).to.deep.equal([]);
    }
  });

  it("cuts a tail of garbage or zeros, and says how long it was", async () => {
    const log = openLog();
    await append(log, "good");
    await log[Symbol.asyncDispose]();
    const whole = await readFile(log.segmentPath(1));
    for (const tail of [noise(700), Buffer.alloc(4096), sealer.seal("chunk", noise(100), "none").bytes]) {
      await writeFile(log.segmentPath(1), Buffer.concat([whole, tail]));
      const { texts, tornBytes, damage } = await replay();
      expect(texts).to.deep.equal(["good"]);
      expect(tornBytes).to.equal(tail.length);
      expect(damage).to.deep.equal([]);
    }
  });

  it("reports damage with commits behind it, and still gives those", async () => {
    const log = openLog();
    const middle = [await append(log, "one"), await append(log, "two"), await append(log, "three")][1]!;
    await log[Symbol.asyncDispose]();
    const whole = await readFile(log.segmentPath(1));
    for (let at = middle.places[0]!.offsetBytes; at < middle.frame.offsetBytes + middle.frame.recordBytes; at += 7) {
      const hurt = Buffer.from(whole);
      hurt[at]! ^= 4;
      await writeFile(log.segmentPath(1), hurt);
      const { commits, damage } = await replay();
      const texts = commits.map(({ payload }) => payload.toString());
      const inFrame = at >= middle.frame.offsetBytes;
      expect(texts, `byte ${at}`).to.deep.equal(inFrame ? ["one", "three"] : ["one", "two", "three"]);
      expect(damage.length, `byte ${at}`).to.equal(1);
      expect(damage[0]!.certain, "a later write proves that it was durable").to.equal(true);
      expect(commits[1]!.complete).to.equal(inFrame);
      if (inFrame) expect(commits[1]!.records.map(({ place }) => place)).to.deep.include(middle.places[0]);
    }
  });

  it("takes no file content for a commit, without encryption either", async () => {
    const plainKeys = testKeys(false);
    const forged = openForeign(plainKeys, folder().at("foreign"));
    await forged.append({ records: [], payload: Buffer.from("forged") }, NEVER);
    await forged[Symbol.asyncDispose]();
    const content = (await readFile(forged.segmentPath(1))).subarray(80);
    const log = openForeign(plainKeys, folder().at("wal"));
    const chunk = new RecordSealer(plainKeys).seal("chunk", content, "none");
    const { places } = await log.append({ records: [chunk], payload: Buffer.from("honest") }, NEVER);
    await log[Symbol.asyncDispose]();
    const texts: string[] = [];
    const collect = (commit: ReplayedCommit): void => void texts.push(commit.payload.toString());
    await replayLog({ folder: folder().at("wal"), keys: plainKeys }, collect, NEVER);
    expect(texts).to.deep.equal(["honest"]);
    const hurt = await readFile(log.segmentPath(1));
    hurt[places[0]!.offsetBytes + 3]! ^= 1; // the outer record is lost: the scan comes upon the content
    await writeFile(log.segmentPath(1), hurt);
    await replayLog({ folder: folder().at("wal"), keys: plainKeys }, collect, NEVER);
    expect(texts).to.deep.equal(["honest", "honest"]);
  });

  it("goes on in a new segment after a reopen, with the chain intact", async () => {
    const first = openLog();
    await append(first, "a");
    await first[Symbol.asyncDispose]();
    await truncate(first.segmentPath(1), (await readFile(first.segmentPath(1))).length);
    const second = openLog({ from: await replay() });
    await append(second, "b");
    await second[Symbol.asyncDispose]();
    const { texts, damage, segments } = await replay();
    expect(texts).to.deep.equal(["a", "b"]);
    expect(damage).to.deep.equal([]);
    expect(segments.map(({ segment }) => segment)).to.deep.equal([1, 2]);
  });

  it("begins a new segment when one is full, removes sealed ones, and notices a missing one", async () => {
    await using log = openLog({ segmentBytesMax: 600 });
    for (let index = 0; index < 6; index += 1) await append(log, `commit ${index} ${"x".repeat(200)}`);
    await log.rotate();
    expect(log.segments().length).to.be.greaterThan(2);
    expect((await replay()).texts.length).to.equal(6);
    const second = log.segments()[1]!;
    const saved = await readFile(second.path);
    await writeFile(second.path, saved.subarray(0, 80));
    const { damage } = await replay();
    expect(damage.map(({ certain }) => certain)).to.deep.equal([true]);
    await writeFile(second.path, saved);
    await log.removeThrough(second.segment);
    const rest = await replay();
    expect(rest.damage).to.deep.equal([]);
    expect(rest.texts.length).to.be.within(1, 5);
    expect(rest.end).to.deep.equal(log.position);
    expect((await readdir(folder().at("wal"))).length).to.equal(log.segments().length);
  });

  const errors = { ENOSPC: "STORE_FULL", EIO: "STORE_IO", EROFS: "STORE_READ_ONLY" } as const;
  const steps: IoCall[] = ["makeFolder", "create", "write", "datasync", "syncFolder"];
  for (const [errno, code] of Object.entries(errors)) {
    for (const step of steps) {
      it(`refuses commits while ${step} fails with ${errno}, and goes on by itself afterwards`, async () => {
        const io = new FaultIo();
        io.partialShare = 0.6;
        await using log = openLog({ io });
        io.plan = (call) => (call === step ? errno : undefined);
        expect(await codeOf(append(log, "refused at the start"))).to.equal(code);
        io.plan = () => undefined;
        await append(log, "kept");
        io.plan = (call) => (call === step ? errno : undefined);
        const outcome = await codeOf(append(log, "in the middle"));
        expect(outcome).to.equal(step === "write" || step === "datasync" ? code : "none");
        io.plan = () => undefined;
        await Promise.all([append(log, "x"), append(log, "y")]);
        const { texts, damage, end } = await replay();
        const middle = outcome === "none" ? ["in the middle"] : [];
        expect(texts).to.deep.equal(["kept", ...middle, "x", "y"]);
        expect(damage).to.deep.equal([]);
        expect(end).to.deep.equal(log.position);
      });
    }
  }

  it("tells that commits are gone when a later start's commits follow them", async () => {
    {
      await using log = openLog();
      await append(log, "a");
      await append(log, "b");
    }
    {
      await using log = openLog({ from: await replay() });
      await append(log, "c");
    }
    const { commits } = await replay();
    const place = commits[1]!.frame;
    const path = openLog().segmentPath(1);
    const bytes = await readFile(path);
    bytes[place.offsetBytes + place.recordBytes - 1]! ^= 1;
    await writeFile(path, bytes);
    const { texts, damage } = await replay();
    expect(texts).to.deep.equal(["a", "c"]);
    expect(damage.map(({ certain }) => certain)).to.deep.equal([true]);
  });

  it("never appends to a segment again whose datasync failed", async () => {
    const io = new FaultIo();
    await using log = openLog({ io });
    const before = await append(log, "kept");
    io.plan = (call) => (call === "datasync" ? "EIO" : undefined);
    expect(await codeOf(append(log, "refused"))).to.equal("STORE_IO");
    io.plan = () => undefined;
    const after = await append(log, "after");
    expect([before.frame.segment, after.frame.segment]).to.deep.equal([1, 2]);
    expect(after.seq).to.equal(2);
  });

  it("drops what a failed datasync left on the disk, though it could not be taken back", async () => {
    const io = new FaultIo();
    await using log = openLog({ io });
    await append(log, "kept");
    io.plan = (call) => (call === "datasync" || call === "truncate" ? "EIO" : undefined);
    expect(await codeOf(append(log, "refused"))).to.equal("STORE_IO");
    io.plan = () => undefined;
    expect((await replay()).texts).to.deep.equal(["kept", "refused"]); // nobody can know before the next commit
    await append(log, "after");
    const { texts, damage, end } = await replay();
    expect(texts).to.deep.equal(["kept", "after"]);
    expect(damage).to.deep.equal([]);
    expect(end).to.deep.equal(log.position);
  });

  it("waits when too much is queued, and loses nothing of it", async () => {
    await using log = openLog({ segmentBytesMax: 2 ** 30 });
    const big = sealer.seal("chunk", noise(2 ** 20), "none");
    const record = { ...big, bytes: Buffer.concat([big.bytes]) };
    const payload = Buffer.from("p");
    const receipts = await Promise.all(
      Array.from({ length: 100 }, () => log.append({ records: [record], payload }, NEVER)),
    );
    expect(receipts.map(({ seq }) => seq)).to.deep.equal(Array.from({ length: 100 }, (_, index) => index + 1));
    expect((await replay()).texts.length).to.equal(100);
  });

  it("refuses a payload that no record can hold, and appends after it is closed", async () => {
    const log = openLog();
    const long = log.append({ records: [], payload: Buffer.alloc(16 * 2 ** 20) }, NEVER);
    expect(await codeOf(long)).to.equal("LIMIT_REACHED");
    const last = append(log, "last");
    await log[Symbol.asyncDispose]();
    expect((await last).seq).to.equal(1);
    expect(await codeOf(append(log, "late"))).to.equal("INTERNAL");
  });

  function openForeign(keys: typeof KEYS, path: string): WriteAheadLog {
    return new WriteAheadLog({ folder: path, keys, observer: silentObserver }, LOG_START);
  }
});
