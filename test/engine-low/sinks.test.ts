/** The packs that a worker fills one after the other: each is written and closed behind what is added. */
import { readdir } from "node:fs/promises";
import { expect } from "chai";
import type { FinishedPack } from "../../src/engine/pack/format.js";
import type { SealedRecord } from "../../src/engine/pack/record.js";
import type { ChunkId } from "../../src/engine/types.js";
import { PackSink } from "../../src/engine/workers/sinks.js";
import { codeOf, testKeys } from "../support/engine-keys.js";
import { FaultIo, type IoCall } from "../support/fault-io.js";
import { useTempFolder } from "../support/temp-folder.js";

const BYTES = new Uint8Array(8 * 2 ** 20);
const ID = "ab".repeat(32) as ChunkId;
/** The sink does not look into a record; four of these fill a pack. */
const RECORD: SealedRecord = { type: "chunk", id: ID, plainBytes: BYTES.length, bytes: BYTES };
const RECORDS = 10;

describe("the packs of a worker", () => {
  const folder = useTempFolder("sinks");

  function newSink(io: FaultIo): PackSink {
    return new PackSink({ stagingFolder: folder().path, kind: "d", keys: testKeys(), io });
  }

  async function fill(sink: PackSink): Promise<readonly FinishedPack[]> {
    for (let record = 0; record < RECORDS; record += 1) await sink.put(RECORD);
    await sink.finish();
    return sink.takeFinished();
  }

  it("are all there when they are finished", async () => {
    const sink = newSink(new FaultIo());
    const packs = await fill(sink);
    await sink[Symbol.asyncDispose]();
    expect(packs.map(({ entries }) => entries.length)).to.deep.equal([4, 4, 2]);
    expect(await readdir(folder().path)).to.have.length(3);
  });

  it("say which call failed, whichever it was, and leave nothing behind", async () => {
    const whole = new FaultIo();
    await fill(newSink(whole));
    const before = (await readdir(folder().path)).length;
    for (let at = 0; at < whole.calls.length; at += 1) {
      const io = new FaultIo();
      io.plan = (_call: IoCall, _path, index) => (index === at ? "ENOSPC" : undefined);
      const sink = newSink(io);
      expect(await codeOf(fill(sink)), String(at)).to.equal("STORE_FULL");
      await sink[Symbol.asyncDispose]();
      expect((await readdir(folder().path)).length, `after call ${String(at)}`).to.equal(before);
    }
  });
});
