/** Records and packs: sealing and opening, every damaged bit noticed, scans that find what is left. */
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import { HoldfastError } from "../../src/base/errors.js";
import { encodeBundle, readBundle } from "../../src/engine/pack/bundle.js";
import { type FinishedPack, PACK_HEADER_BYTES } from "../../src/engine/pack/format.js";
import { provePack } from "../../src/engine/pack/prove.js";
import { chunkOfBundle, readPackDirectory, readRecord, scanRecords } from "../../src/engine/pack/reader.js";
import { chunkIdOf, RecordOpener, RecordSealer, type SealedRecord } from "../../src/engine/pack/record.js";
import { type ByteSource, memorySource, newReadWindow, WindowSource } from "../../src/engine/pack/source.js";
import { PackWriter } from "../../src/engine/pack/writer.js";
import { codeOf, NEVER, noise, testKeys, thrownCode } from "../support/engine-keys.js";
import { FaultIo } from "../support/fault-io.js";
import { useTempFolder } from "../support/temp-folder.js";

const KEYS = testKeys();

function bundleOf(sealer: RecordSealer, plains: readonly Buffer[]): SealedRecord {
  const { plain, inner } = encodeBundle(plains.map((chunk) => ({ id: chunkIdOf(KEYS, chunk), plain: chunk })));
  return { ...sealer.seal("bundle", plain, "lz4"), inner };
}

function sampleRecords(): SealedRecord[] {
  const sealer = new RecordSealer(KEYS);
  return [
    sealer.seal("chunk", Buffer.from("text ".repeat(60)), "lz4"),
    bundleOf(sealer, [Buffer.from("one"), Buffer.from("two two"), noise(90)]),
    sealer.seal("chunk", noise(200), "lz4"),
  ];
}

describe("records", () => {
  for (const encrypted of [true, false]) {
    const keys = testKeys(encrypted);
    const name = encrypted ? "an encrypted" : "a plain";

    it(`open to what was sealed in ${name} repository`, () => {
      const sealer = new RecordSealer(keys);
      const opener = new RecordOpener(keys);
      fc.assert(
        fc.property(fc.uint8Array({ maxLength: 500 }), fc.constantFrom("none", "lz4"), (plain, codec) => {
          const sealed = sealer.seal("chunk", plain, codec);
          const opened = opener.open(sealed.bytes);
          expect(opened.plain.equals(plain)).to.equal(true);
          expect(opened.header.id).to.equal(chunkIdOf(keys, plain));
          expect(opened.header.encrypted).to.equal(encrypted);
        }),
      );
    });

    it(`are refused with any single bit changed in ${name} repository`, () => {
      const opener = new RecordOpener(keys);
      const { bytes } = new RecordSealer(keys).seal("chunk", Buffer.from("some text, some text ".repeat(9)), "lz4");
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        const flipped = Buffer.from(bytes);
        flipped[bit >> 3]! ^= 1 << (bit & 7);
        expect(
          thrownCode(() => opener.open(flipped)),
          `bit ${bit}`,
        ).to.equal("RECORD_DAMAGED");
      }
    });
  }

  it("never use a nonce twice under one salt, and a fresh salt for each sealer", () => {
    const sealer = new RecordSealer(KEYS);
    const heads = Array.from({ length: 100 }, () =>
      sealer.seal("chunk", Buffer.from("same"), "none").bytes.slice(48, 76),
    );
    expect(new Set(heads.map((head) => Buffer.from(head).toString("hex"))).size).to.equal(100);
    expect(new RecordSealer(KEYS).salt).to.not.equal(sealer.salt);
  });

  it("of another repository or key do not open", () => {
    const { bytes } = new RecordSealer(KEYS).seal("chunk", Buffer.from("mine"), "none");
    const otherId = new RecordOpener({ ...KEYS, repositoryId: Buffer.alloc(32, 1) });
    const otherKey = new RecordOpener({ ...KEYS, recordMaster: Buffer.alloc(32, 1) });
    expect(thrownCode(() => otherId.open(bytes))).to.equal("RECORD_DAMAGED");
    expect(thrownCode(() => otherKey.open(bytes))).to.equal("RECORD_DAMAGED");
  });

  it("without encryption are refused by an encrypted repository", () => {
    const plainKeys = { ...KEYS, recordMaster: undefined };
    const { bytes } = new RecordSealer(plainKeys).seal("chunk", Buffer.from("slipped in"), "none");
    expect(thrownCode(() => new RecordOpener(KEYS).open(bytes))).to.equal("RECORD_DAMAGED");
  });

  it("whose content is not what the id says are damaged, though seal and checksum fit", () => {
    const otherId = chunkIdOf(KEYS, Buffer.from("other"));
    const { bytes } = new RecordSealer(KEYS).seal("chunk", Buffer.from("content"), "none", otherId);
    expect(thrownCode(() => new RecordOpener(KEYS).open(bytes))).to.equal("RECORD_DAMAGED");
  });

  it("answer any bytes with RECORD_DAMAGED, never with a crash", () => {
    const opener = new RecordOpener(KEYS);
    const magic = Buffer.from("HFR1\x01\x01\x01\x01", "latin1");
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (bytes, likely) => {
        const hostile = likely ? Buffer.concat([magic, bytes]) : bytes;
        expect(thrownCode(() => opener.open(hostile))).to.equal("RECORD_DAMAGED");
      }),
    );
  });
});

describe("bundles", () => {
  it("give back each chunk in order, also without the index", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 40 }), (plains) => {
        const chunks = plains.map((plain) => ({ id: chunkIdOf(KEYS, plain), plain }));
        const { plain, inner } = encodeBundle(chunks);
        expect(readBundle(plain)).to.deep.equal(inner);
        inner.forEach((chunk, index) => {
          expect(chunkOfBundle(KEYS, plain, chunk).equals(plains[index]!)).to.equal(true);
        });
      }),
    );
  });

  it("with a directory that lies are damaged", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(thrownCode(() => readBundle(bytes))).to.be.oneOf(["none", "RECORD_DAMAGED"]);
      }),
    );
    const { plain } = encodeBundle([{ id: chunkIdOf(KEYS, Buffer.from("a")), plain: Buffer.from("a") }]);
    expect(thrownCode(() => readBundle(Buffer.concat([plain, Buffer.from("x")])))).to.equal("RECORD_DAMAGED");
    expect(thrownCode(() => readBundle(Buffer.from([255, 255, 255, 255])))).to.equal("RECORD_DAMAGED");
  });
});

describe("packs", () => {
  const folder = useTempFolder("pack");
  const opener = new RecordOpener(KEYS);

  async function writePack(records: readonly SealedRecord[]): Promise<{ pack: FinishedPack; bytes: Buffer }> {
    const writer = new PackWriter({ stagingFolder: folder().path, kind: "d", keys: KEYS });
    for (const record of records) await writer.add(record);
    const pack = await writer.finish();
    if (pack === undefined) throw new Error("the pack is empty");
    return { pack, bytes: await readFile(pack.stagingPath) };
  }

  it("are named by the hash of the file and list every record in the trailer", async () => {
    const records = sampleRecords();
    const { pack, bytes } = await writePack(records);
    expect(pack.sha256).to.equal(createHash("sha256").update(bytes).digest("hex"));
    expect(pack.sizeBytes).to.equal(bytes.length);
    const { kind, entries } = await readPackDirectory(memorySource(bytes), opener, NEVER);
    expect(kind).to.equal("d");
    expect(entries).to.deep.equal(pack.entries);
    expect(entries.map((entry) => entry.id)).to.deep.equal(records.map((record) => record.id));
    for (const entry of entries) {
      const opened = await readRecord(memorySource(bytes), entry, opener, NEVER);
      expect(opened.header.id).to.equal(entry.id);
    }
  });

  it("prove themselves whole, and name what is damaged when they are not", async () => {
    const { pack, bytes } = await writePack(sampleRecords());
    const good = await provePack(memorySource(bytes), pack.sha256, opener, NEVER);
    expect(good).to.include({ nameMatches: true, records: 3, bytes: bytes.length, directoryFault: undefined });
    expect(good.damaged).to.deep.equal([]);
    const bundle = pack.entries[1]!;
    const hurt = Buffer.from(bytes);
    hurt[bundle.offsetBytes + 100]! ^= 1;
    const bad = await provePack(memorySource(hurt), pack.sha256, opener, NEVER);
    expect(bad.nameMatches).to.equal(false);
    expect(bad.damaged).to.deep.equal([bundle.id, ...bundle.inner!.map((chunk) => chunk.id)]);
  });

  it("lose to a place that the disk does not read only what lies there, and are given up when there are many", async () => {
    const records = sampleRecords();
    const { pack, bytes } = await writePack([...records, new RecordSealer(KEYS).seal("chunk", noise(300_000), "none")]);
    const large = pack.entries.at(-1)!;
    const failing = (from: number, to: number): ByteSource => ({
      sizeBytes: bytes.length,
      read: async (offset, length, signal) => {
        if (offset < to && offset + length > from) throw new HoldfastError("STORE_IO", "EIO: made to fail");
        return await memorySource(bytes).read(offset, length, signal);
      },
    });
    const within = large.offsetBytes + 100_000;
    const proof = await provePack(failing(within, within + 512), pack.sha256, opener, NEVER);
    expect(proof).to.include({ nameMatches: false, records: 4, directoryFault: undefined });
    expect(proof.damaged).to.deep.equal([large.id]);
    // Where the directory does not read, the records are found by a scan.
    const headless = await provePack(failing(0, 10), pack.sha256, opener, NEVER);
    expect(headless.entries.length).to.be.greaterThan(0);
    const all = provePack(failing(0, bytes.length), pack.sha256, opener, NEVER);
    expect(await codeOf(all)).to.equal("STORE_IO");
  });

  it("show a changed byte anywhere: name, record, trailer or footer", async () => {
    const { pack, bytes } = await writePack(sampleRecords());
    for (let at = 0; at < bytes.length; at += 1) {
      const hurt = Buffer.from(bytes);
      hurt[at]! ^= 0x10;
      const source = memorySource(hurt);
      const proof = await provePack(source, pack.sha256, opener, NEVER).catch(() => undefined);
      if (proof === undefined) continue; // an unknown version is an error of its own
      expect(proof.nameMatches, `byte ${at}`).to.equal(false);
      const inside = pack.entries.find(
        (entry) => at >= entry.offsetBytes && at < entry.offsetBytes + entry.recordBytes,
      );
      if (inside !== undefined) expect(proof.damaged, `byte ${at}`).to.include(inside.id);
      else if (at >= PACK_HEADER_BYTES) expect(proof.directoryFault, `byte ${at}`).to.be.a("string");
    }
  });

  it("are proved on a disk, through one window of memory, as they are in memory", async () => {
    for (const keys of [KEYS, testKeys(false)]) {
      const sealer = new RecordSealer(keys);
      const reader = new RecordOpener(keys);
      const writer = new PackWriter({ stagingFolder: folder().path, kind: "d", keys });
      for (let count = 1; count <= 4; count += 1) {
        await writer.add(sealer.seal("chunk", noise(100 * count), "none"));
        await writer.add(sealer.seal("chunk", Buffer.from("text ".repeat(40 * count)), "zstd:3"));
      }
      const pack = await writer.finish();
      if (pack === undefined) throw new Error("the pack is empty");
      const bytes = await readFile(pack.stagingPath);
      const window = newReadWindow();
      for (let at = -1; at < bytes.length; at += 7) {
        const hurt = Buffer.from(bytes);
        if (at >= 0) hurt[at]! ^= 0x10;
        const path = `${folder().path}/hurt`;
        await writeFile(path, hurt);
        using source = new WindowSource(path, window);
        const proof = await provePack(source, pack.sha256, reader, NEVER).catch(() => undefined);
        const expected = await provePack(memorySource(hurt), pack.sha256, reader, NEVER).catch(() => undefined);
        expect(proof, `byte ${at}`).to.deep.equal(expected);
        expect(proof?.nameMatches === true && proof.damaged.length === 0, `byte ${at}`).to.equal(at < 0);
      }
    }
  });

  it("are scanned past damage: all other records are found at their places", async () => {
    const { pack, bytes } = await writePack(sampleRecords());
    const [first, second, third] = pack.entries;
    bytes.fill(0, second!.offsetBytes, second!.offsetBytes + 90);
    const found: (number | string)[] = [];
    for await (const item of scanRecords(memorySource(bytes), opener, PACK_HEADER_BYTES, NEVER)) {
      found.push(item.kind, item.offsetBytes);
    }
    const trailerAt = third!.offsetBytes + third!.recordBytes;
    expect(found.slice(0, 8)).to.deep.equal([
      "record",
      first!.offsetBytes,
      "damage",
      second!.offsetBytes,
      "record",
      third!.offsetBytes,
      "record",
      trailerAt,
    ]);
  });

  it("without a trailer give their entries by a scan, bundled chunks included", async () => {
    const { pack, bytes } = await writePack(sampleRecords());
    const cut = bytes.subarray(0, bytes.length - 30);
    const proof = await provePack(memorySource(cut), pack.sha256, opener, NEVER);
    expect(proof.directoryFault).to.be.a("string");
    expect(proof.entries).to.deep.equal(pack.entries);
  });

  it("leave nothing behind when writing fails, whatever call fails", async () => {
    const codes = { ENOSPC: "STORE_FULL", EIO: "STORE_IO", EROFS: "STORE_READ_ONLY" } as const;
    for (const [errno, code] of Object.entries(codes)) {
      for (const call of ["create", "write", "sync"] as const) {
        const io = new FaultIo();
        io.partialShare = 0.5;
        io.plan = (name) => (name === call ? errno : undefined);
        {
          await using writer = new PackWriter({ stagingFolder: folder().path, kind: "d", keys: KEYS, io });
          for (const record of sampleRecords()) await writer.add(record);
          expect(await codeOf(writer.finish()), `${call} ${errno}`).to.equal(code);
        }
        expect(await readdir(folder().path)).to.deep.equal([]);
      }
    }
  });

  it("are not written at all without a record", async () => {
    const writer = new PackWriter({ stagingFolder: folder().path, kind: "m", keys: KEYS });
    expect(await writer.finish()).to.equal(undefined);
    expect(await readdir(folder().path)).to.deep.equal([]);
  });
});
