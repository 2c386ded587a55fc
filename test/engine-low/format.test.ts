/**
 * Reads a repository's bytes as docs/repository-format.md describes them, with nothing of holdfast: a format that only
 * its writer can read would be no format.
 */
import { createDecipheriv, createHash, createHmac, hkdfSync } from "node:crypto";
import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { expect } from "chai";
import { uncompressSync } from "lz4-napi";
import { silentObserver } from "../../src/base/observe.js";
import { deriveKeys } from "../../src/engine/keys.js";
import { encodeBundle } from "../../src/engine/pack/bundle.js";
import { chunkIdOf, RecordSealer } from "../../src/engine/pack/record.js";
import { PackWriter } from "../../src/engine/pack/writer.js";
import { LOG_START, WriteAheadLog } from "../../src/engine/wal/log.js";
import { NEVER, noise } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

const REPOSITORY = Buffer.alloc(32, 0x11);
const MASTER = Buffer.alloc(32, 0x22);
const RECORD_MASTER = derived(MASTER, REPOSITORY, "holdfast records v1");
const ID_KEY = derived(MASTER, REPOSITORY, "holdfast ids v1");

function derived(key: Buffer, salt: Buffer, label: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, label, 32));
}

/** A record by the page: type, plain bytes, whole length. */
function readByThePage(bytes: Buffer): { type: number; plain: Buffer; recordBytes: number } {
  expect(bytes.toString("latin1", 0, 4)).to.equal("HFR1");
  expect([bytes[4], bytes[7]]).to.deep.equal([1, 1]);
  const end = 80 + bytes.readUInt32LE(44);
  expect(bytes.readUInt32LE(76)).to.equal(crc32(Buffer.concat([bytes.subarray(0, 76), bytes.subarray(80, end)])));
  const key = derived(RECORD_MASTER, bytes.subarray(48, 64), "holdfast record v1");
  const cipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(64, 76));
  cipher.setAAD(Buffer.concat([REPOSITORY, bytes.subarray(0, 76)]));
  cipher.setAuthTag(bytes.subarray(end - 16, end));
  const opened = Buffer.concat([cipher.update(bytes.subarray(80, end - 16)), cipher.final()]);
  const plain = bytes[6] === 1 ? uncompressSync(opened) : opened;
  expect(plain.length).to.equal(bytes.readUInt32LE(40));
  // Of a bundle the id is that of its directory.
  const named = bytes[5] === 2 ? plain.subarray(0, 4 + 36 * plain.readUInt32LE(0)) : plain;
  const id = createHmac("sha256", ID_KEY).update(createHash("sha256").update(named).digest()).digest();
  expect(id.equals(bytes.subarray(8, 40))).to.equal(true);
  return { type: bytes.readUInt8(5), plain, recordBytes: end };
}

describe("repository format", () => {
  const folder = useTempFolder("format");
  const keys = deriveKeys(REPOSITORY, [MASTER]);

  it("of a pack is what the page says: header, records, bundle, trailer, footer", async () => {
    const sealer = new RecordSealer(keys);
    const chunks = [Buffer.from("one"), Buffer.from("two ".repeat(50))];
    const { plain, inner } = encodeBundle(chunks.map((chunk) => ({ id: chunkIdOf(keys, chunk), plain: chunk })));
    const writer = new PackWriter({ stagingFolder: folder().path, kind: "d", keys });
    await writer.add({ ...sealer.seal("bundle", plain, "lz4"), inner });
    await writer.add(sealer.seal("chunk", noise(300), "lz4"));
    const pack = await writer.finish();
    const bytes = await readFile(pack!.stagingPath);
    expect(bytes.toString("latin1", 0, 10)).to.equal("HFPACK1\0\x01d");
    expect(bytes.subarray(16, 48).equals(REPOSITORY)).to.equal(true);
    const bundle = readByThePage(bytes.subarray(48));
    expect(bundle.type).to.equal(2);
    expect([bundle.plain.readUInt32LE(0), bundle.plain.readUInt32LE(36), bundle.plain.readUInt32LE(72)]).to.deep.equal([
      2, 3, 200,
    ]);
    expect(bundle.plain.toString("latin1", 4 + 72, 4 + 75)).to.equal("one");
    const chunk = readByThePage(bytes.subarray(48 + bundle.recordBytes));
    expect([chunk.type, chunk.plain.equals(noise(300))]).to.deep.equal([1, true]);
    const footer = bytes.subarray(-24);
    expect(footer.toString("latin1", 16)).to.equal("HFPKEND1");
    expect(footer.readUInt32LE(12)).to.equal(crc32(footer.subarray(0, 12)));
    const trailer = readByThePage(bytes.subarray(Number(footer.readBigUInt64LE(0))));
    expect([trailer.type, trailer.recordBytes]).to.deep.equal([6, footer.readUInt32LE(8)]);
    const secondEntry = 4 + 56 + 2 * 40;
    expect(trailer.plain.readUInt32LE(0)).to.equal(2);
    expect(trailer.plain.readUInt32LE(4 + 52)).to.equal(2);
    expect(trailer.plain.readUInt8(secondEntry)).to.equal(1);
    expect(Number(trailer.plain.readBigUInt64LE(secondEntry + 4))).to.equal(48 + bundle.recordBytes);
  });

  it("of a log segment is what the page says: header, records, chained frames", async () => {
    const log = new WriteAheadLog({ folder: folder().at("wal"), keys, observer: silentObserver }, LOG_START);
    const record = new RecordSealer(keys).seal("chunk", Buffer.from("content"), "none");
    await log.append({ records: [record], payload: Buffer.from("first") }, NEVER);
    await log.append({ records: [], payload: Buffer.from("second") }, NEVER);
    await log[Symbol.asyncDispose]();
    const bytes = await readFile(folder().at("wal", "00000001.seg"));
    expect(bytes.toString("latin1", 0, 10)).to.equal("HFWAL1\0\0\x01\x01");
    expect(Number(bytes.readBigUInt64LE(12))).to.equal(1);
    expect(bytes.subarray(20, 52).equals(REPOSITORY)).to.equal(true);
    expect(bytes.readUInt32LE(76)).to.equal(crc32(bytes.subarray(0, 76)));
    const chunk = readByThePage(bytes.subarray(80));
    const firstAt = 80 + chunk.recordBytes;
    const first = readByThePage(bytes.subarray(firstAt));
    expect([first.type, Number(first.plain.readBigUInt64LE(0)), first.plain.readUInt32LE(16)]).to.deep.equal([4, 1, 1]);
    expect(Number(first.plain.readBigUInt64LE(8))).to.equal(80);
    expect(first.plain.subarray(24, 56).equals(Buffer.alloc(32))).to.equal(true);
    expect(first.plain.toString("latin1", 56)).to.equal("first");
    expect(bytes.subarray(firstAt + 48, firstAt + 64).equals(bytes.subarray(52, 68))).to.equal(true);
    const second = readByThePage(bytes.subarray(firstAt + first.recordBytes));
    const hash = createHash("sha256")
      .update(bytes.subarray(firstAt, firstAt + first.recordBytes))
      .digest();
    expect(second.plain.subarray(24, 56).equals(hash)).to.equal(true);
    expect(second.plain.toString("latin1", 56)).to.equal("second");
  });
});
