/** The worker pool: every kind of thing on a disk has an outcome, what is stored can be read back, faults stay small. */
import { createHash } from "node:crypto";
import { type FileHandle, link, mkdir, open, readdir, readFile, symlink, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import { mapLimited } from "../../src/base/concurrency.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, pathBytes, pathFromBytes, pathFromText } from "../../src/base/paths.js";
import { runProgram } from "../../src/base/spawn.js";
import { type FinishedPack, packKey } from "../../src/engine/pack/format.js";
import { chunkOfBundle } from "../../src/engine/pack/reader.js";
import { RecordOpener, type SealedRecord } from "../../src/engine/pack/record.js";
import { readBundle } from "../../src/engine/pack/bundle.js";
import type { ChunkId, FileNode } from "../../src/engine/types.js";
import { ChunkSet } from "../../src/engine/workers/chunk-set.js";
import { type FileOutcome, type IngestBatch, type IngestResult, WorkerPool } from "../../src/engine/workers/pool.js";
import { openBackend } from "../../src/storage/open.js";
import { codeOf, NEVER, noise, testKeys } from "../support/engine-keys.js";
import { requireRoot } from "../support/requirements.js";
import { nodeOfUnstamped } from "../../src/engine/tree/unstamped.js";
import { useTempFolder } from "../support/temp-folder.js";

const KEYS = testKeys();

describe("worker pool", () => {
  const folder = useTempFolder("workers");
  let chunkSet: ChunkSet;
  let pool: WorkerPool;

  beforeEach(async () => {
    const store = await openBackend(folder().at("store"), { create: true });
    chunkSet = new ChunkSet();
    pool = new WorkerPool({
      keys: KEYS,
      storeUrl: store.url,
      stagingFolder: store.stagingFolder,
      chunkSet,
      workers: 2,
      observer: silentObserver,
    });
    await mkdir(folder().at("live"));
  });

  afterEach(async () => {
    await pool[Symbol.asyncDispose]();
  });

  async function ingest(paths: readonly BytePath[], more: Partial<IngestBatch> = {}): Promise<IngestResult> {
    const job = more.job ?? chunkSet.newJob();
    return await pool.ingest({ mode: "inline", compression: "lz4", ...more, job, paths }, NEVER);
  }

  async function live(name: string, content: Uint8Array | string): Promise<BytePath> {
    return pathFromText(await folder().write(join("live", name), content));
  }

  function nodeOf(outcome: FileOutcome | undefined): FileNode {
    if (outcome?.kind !== "read") throw new Error(`not read: ${outcome?.kind ?? "nothing"}`);
    return nodeOfUnstamped(outcome.unstamped);
  }

  /** All chunks of sealed records, opened. */
  function chunksIn(records: readonly Pick<SealedRecord, "bytes">[]): Map<ChunkId, Buffer> {
    const opener = new RecordOpener(KEYS);
    const chunks = new Map<ChunkId, Buffer>();
    for (const { bytes } of records) {
      const { header, plain } = opener.open(bytes);
      if (header.type === "chunk") chunks.set(header.id, plain);
      else for (const inner of readBundle(plain)) chunks.set(inner.id, chunkOfBundle(KEYS, plain, inner));
    }
    return chunks;
  }

  function contentOf(node: FileNode, chunks: ReadonlyMap<ChunkId, Buffer>): Buffer {
    return Buffer.concat((node.chunks ?? []).map(({ id }) => chunks.get(id) ?? Buffer.from("MISSING")));
  }

  async function storePacks(packs: readonly FinishedPack[]): Promise<void> {
    const store = await openBackend(folder().at("store"));
    for (const pack of packs) await store.putFile(packKey(pack.kind, pack.sha256), pack.stagingPath, NEVER);
  }

  it("reads files inline: content, digests, and small ones share a bundle", async () => {
    const contents = [Buffer.from("hello\n"), Buffer.from("x".repeat(5000)), noise(70_000), Buffer.alloc(0)];
    const paths = await Promise.all(contents.map((content, index) => live(`f${index}`, content)));
    const { outcomes, records, packs, readBytes } = await ingest(paths);
    const chunks = chunksIn(records);
    outcomes.forEach((outcome, index) => {
      const node = nodeOf(outcome);
      const content = contents[index]!;
      expect(contentOf(node, chunks).equals(content)).to.equal(true);
      expect(node.sha256).to.equal(createHash("sha256").update(content).digest("hex"));
      expect(node.stat.sizeBytes).to.equal(content.length);
      expect(node.torn).to.equal(undefined);
    });
    expect(nodeOf(outcomes[3]).chunks).to.deep.equal([]);
    expect(records.map(({ type }) => type)).to.deep.equal(["bundle"]);
    expect(packs).to.deep.equal([]);
    expect(readBytes).to.equal(75_006);
  });

  it("gives Git's id to files in a work tree only, from the moment on in which it becomes one", async () => {
    const paths = [await live("tree/sub/f", "hello\n"), await live("tree/big", noise(100_000))];
    const ids = async (more: readonly BytePath[] = []): Promise<(string | undefined)[]> =>
      (await ingest([...paths, ...more])).outcomes.map((outcome) => nodeOf(outcome).gitBlobId);
    expect(await ids()).to.deep.equal([undefined, undefined]);
    const inside = await live("tree/.git/objects/pack", "not for git");
    const [small, big, own] = await ids([inside]);
    expect(small).to.equal("ce013625030ba8dba906f756967f9e9ca394464a");
    expect(big).to.match(/^[0-9a-f]{40}$/);
    expect(own).to.equal(undefined);
  });

  it("stores nothing twice: not what is durable, not what is in the batch already", async () => {
    const paths = [await live("a", noise(300_000)), await live("b", noise(300_000))];
    const first = await ingest(paths);
    expect(chunksIn(first.records).size).to.equal(nodeOf(first.outcomes[0]).chunks!.length);
    for (const { id } of nodeOf(first.outcomes[0]).chunks!) chunkSet.addDurable(id);
    expect((await ingest(paths)).records).to.deep.equal([]);
  });

  it("gives an outcome to everything that can lie in a folder", async function () {
    requireRoot(this);
    const names = (text: string): string => folder().at("live", text);
    const target = await live("plain", "content");
    await link(names("plain"), names("second name"));
    await symlink(Buffer.from("/nowhere/\xff", "latin1"), names("link"));
    await symlink(names("plain"), names("link to file"));
    await mkdir(names("sub"), { mode: 0o751 });
    for (const program of [
      ["mkfifo", names("fifo")],
      ["mknod", names("device"), "c", "1", "3"],
    ]) {
      await runProgram(program, { timeoutMs: 5000, signal: NEVER });
    }
    const server = createServer().listen(names("socket"));
    const odd = pathFromBytes(
      Buffer.concat([pathBytes(folder().bytes("live")), Buffer.from("/\xff\xfe name\n", "latin1")]),
    );
    await writeFile(pathBytes(odd), "odd");
    const there = ["second name", "link", "link to file", "sub", "fifo", "device", "socket", "missing", "plain/below"];
    const paths = [target, ...there.map((name) => pathFromText(names(name))), odd];
    const { outcomes } = await ingest(paths);
    await new Promise((resolve) => server.close(resolve));
    expect(outcomes.map(({ path }) => path)).to.deep.equal(paths);
    const kinds = outcomes.map((outcome) => (outcome.kind === "read" ? nodeOf(outcome).kind : outcome.kind));
    const expected = ["file", "file", "symlink", "symlink", "folder", "fifo", "char_device", "skipped", "vanished"];
    expect(kinds).to.deep.equal([...expected, "vanished", "file"]);
    expect(nodeOf(outcomes[1]).linkCount).to.equal(2);
    expect(nodeOf(outcomes[2]).linkTarget).to.equal("/nowhere/\xff");
    expect(nodeOf(outcomes[4]).mode).to.equal(0o751);
    expect(nodeOf(outcomes[6]).device).to.deep.equal({ major: 1, minor: 3 });
  });

  it("calls unreadable what the system refuses, with its reason, and goes on", async () => {
    const good = await live("good", "x");
    await symlink("loop", folder().at("live", "loop"));
    const through = pathFromText(folder().at("live", "loop", "file"));
    const long = pathFromText(folder().at("live", "n".repeat(300)));
    const { outcomes } = await ingest([through, long, good]);
    expect(outcomes.map((outcome) => (outcome.kind === "unreadable" ? outcome.errno : outcome.kind))).to.deep.equal([
      "ELOOP",
      "ENAMETOOLONG",
      "read",
    ]);
  });

  it("keeps what it read of a file that never rests, and marks it torn", async () => {
    // Three readings of it, each different throughout, stay below the limit above which records go to packs.
    const path = await live("busy", noise(9_000_000));
    const script = `
      const { openSync, writeSync } = require("node:fs");
      const { parentPort, workerData } = require("node:worker_threads");
      const fd = openSync(workerData, "r+");
      writeSync(fd, "begun", 0);
      parentPort.postMessage("writing");
      for (let at = 0; ; at = (at + 4096) % 9000000) writeSync(fd, Buffer.from(String(at)), 0, null, at);
    `;
    const writer = new Worker(script, { eval: true, workerData: pathBytes(path).toString() });
    try {
      await new Promise((resolve) => writer.once("message", resolve));
      const readOnce = async (): Promise<IngestResult> => {
        const job = chunkSet.newJob();
        const read = await ingest([path], { compression: "none", job });
        chunkSet.abandonJob(job);
        return read;
      };
      let read = await readOnce();
      // On a busy machine the writer may not get its turn in all that time: then the file did rest.
      while (nodeOf(read.outcomes[0]).torn !== true) read = await readOnce();
      const { outcomes, records } = read;
      const node = nodeOf(outcomes[0]);
      expect(node.gitBlobId).to.equal(undefined);
      const content = contentOf(node, chunksIn(records));
      expect(content.length).to.equal(node.stat.sizeBytes);
      expect(createHash("sha256").update(content).digest("hex")).to.equal(node.sha256);
    } finally {
      await writer.terminate();
    }
  });

  it("goes over to packs above the inline limit", async () => {
    const { outcomes, records, packs } = await ingest([await live("big", noise(40_000_000))], { compression: "none" });
    const inlineBytes = records.reduce((sum, { bytes }) => sum + bytes.length, 0);
    expect(inlineBytes).to.be.within(30_000_000, 32 * 2 ** 20);
    expect(packs.length).to.equal(1);
    const ids = new Set([...records.map(({ id }) => id), ...packs[0]!.entries.map(({ id }) => id)]);
    for (const { id } of nodeOf(outcomes[0]).chunks!) expect(ids.has(id)).to.equal(true);
  });

  it("writes packs of many files over many batches, which prove themselves and read back", async () => {
    const job = chunkSet.newJob();
    const contents = Array.from({ length: 60 }, (_, index) => noise(20_000 + index * 1000, index + 1));
    const paths = await Promise.all(contents.map((content, index) => live(`p${index}`, content)));
    const parts = [paths.slice(0, 20), paths.slice(20, 40), paths.slice(40)];
    const results = await Promise.all(parts.map((part) => ingest(part, { job, mode: "pack" })));
    const again = await ingest(paths, { job, mode: "pack" });
    expect(again.packs).to.deep.equal([]);
    const packs = [...results.flatMap((result) => result.packs), ...(await pool.finishPacks(job, NEVER))];
    await storePacks(packs);
    chunkSet.confirmJob(job);
    const chunks = new Map<ChunkId, Buffer>();
    for (const pack of packs) {
      const key = packKey(pack.kind, pack.sha256);
      const proof = await pool.prove({ key, sha256: pack.sha256, sizeBytes: pack.sizeBytes }, NEVER);
      expect(proof).to.include({ nameMatches: true, directoryFault: undefined });
      expect(proof.damaged).to.deep.equal([]);
      const { plains } = await pool.read({ object: { key }, records: pack.entries }, NEVER);
      pack.entries.forEach((entry, index) => {
        for (const inner of entry.inner ?? []) chunks.set(inner.id, chunkOfBundle(KEYS, plains[index]!, inner));
        if (entry.inner === undefined) chunks.set(entry.id, plains[index]!);
      });
    }
    [...results.flatMap((result) => result.outcomes)].forEach((outcome, index) => {
      expect(contentOf(nodeOf(outcome), chunks).equals(contents[index]!)).to.equal(true);
      for (const { id } of nodeOf(outcome).chunks!) expect(chunkSet.isDurable(id)).to.equal(true);
    });
    expect(await readdir(folder().at("store", "staging"))).to.deep.equal([]);
  });

  it("answers for damaged records with nothing, and for a missing pack with OBJECT_MISSING", async () => {
    const job = chunkSet.newJob();
    await ingest([await live("a", noise(100_000))], { job, mode: "pack" });
    const [pack] = await pool.finishPacks(job, NEVER);
    const bytes = await readFile(pack!.stagingPath);
    bytes[pack!.entries[0]!.offsetBytes + 200]! ^= 1;
    const file = await folder().write("hurt", bytes);
    const { plains } = await pool.read({ object: { file }, records: pack!.entries }, NEVER);
    expect(plains[0]).to.equal(undefined);
    const missing = { key: packKey("d", "00"), sha256: "00", sizeBytes: 1 };
    expect(await codeOf(pool.prove(missing, NEVER))).to.equal("OBJECT_MISSING");
  });

  it("throws away an abandoned job: its packs, its pending chunks", async () => {
    const job = chunkSet.newJob();
    await ingest([await live("a", noise(3_000_000))], { job, mode: "pack" });
    expect(chunkSet.size).to.be.greaterThan(0);
    expect((await readdir(folder().at("store", "staging"))).length).to.be.within(1, 2);
    await pool.abandon(job);
    expect(chunkSet.size).to.equal(0);
    expect(await readdir(folder().at("store", "staging"))).to.deep.equal([]);
  });

  it("breaks off when aborted, and works on", async () => {
    const path = await live("big", Buffer.alloc(0));
    await using file: FileHandle = await open(pathBytes(path), "r+");
    await file.truncate(2 ** 40);
    const stop = new AbortController();
    const job = chunkSet.newJob();
    await ingest([await live("first", "a thread runs")]);
    const work = pool.ingest({ job, mode: "pack", compression: "lz4", paths: [path] }, stop.signal);
    setTimeout(() => stop.abort(), 30);
    expect(await codeOf(work)).to.equal("INTERRUPTED");
    expect(await codeOf(ingest([path], { job, mode: "pack" }))).to.equal("INTERRUPTED");
    await pool.abandon(job);
    expect(nodeOf((await ingest([await live("small", "x")])).outcomes[0]).kind).to.equal("file");
  });

  it("keeps memory flat over a sparse file far larger than memory may grow", async () => {
    const path = await live("sparse", "");
    await using file: FileHandle = await open(pathBytes(path), "r+");
    await file.truncate(700 * 2 ** 20);
    await ingest([await live("warm", noise(9_000_000))]);
    const before = process.memoryUsage().rss;
    const { outcomes, records, readBytes } = await ingest([path]);
    expect(readBytes).to.equal(700 * 2 ** 20);
    expect(nodeOf(outcomes[0]).chunks!.length).to.be.greaterThan(699);
    expect(records.length).to.be.at.most(3);
    expect(process.memoryUsage().rss - before).to.be.lessThan(150 * 2 ** 20);
  });

  it("reports a full store and leaves the job to be abandoned", async () => {
    const job = chunkSet.newJob();
    await runProgram(["rm", "-rf", folder().at("store", "staging")], { timeoutMs: 5000, signal: NEVER });
    expect(await codeOf(ingest([await live("a", noise(5_000_000))], { job, mode: "pack" }))).to.equal("OBJECT_MISSING");
    expect(await codeOf(pool.finishPacks(job, NEVER))).to.equal("OBJECT_MISSING");
  });

  it("reads twenty thousand small files in order", async () => {
    const paths: BytePath[] = [];
    for (let index = 0; index < 200; index += 1) {
      await mkdir(folder().at("live", `d${index}`));
      for (let file = 0; file < 100; file += 1) paths.push(folder().bytes("live", `d${index}`, `f${file}`));
    }
    for (const [index, path] of paths.entries()) await writeFile(pathBytes(path), `file ${index}`);
    await utimes(pathBytes(paths[0]!), 1, 1);
    const job = chunkSet.newJob();
    const batches = Array.from({ length: 40 }, (_, index) => paths.slice(index * 500, index * 500 + 500));
    const results = await mapLimited(batches, 4, NEVER, (batch) => ingest(batch, { job, mode: "pack" }));
    const nodes = results.flatMap(({ outcomes }) => outcomes.map(nodeOf));
    expect(nodes.length).to.equal(20_000);
    expect(nodes[0]!.stat.mtimeNs).to.equal(1_000_000_000n);
    nodes.forEach((node, index) => expect(node.stat.sizeBytes).to.equal(`file ${index}`.length));
    const packs = await pool.finishPacks(job, NEVER);
    const stored = packs.flatMap(({ entries }) =>
      entries.flatMap(({ id, inner }) => inner?.map((chunk) => chunk.id) ?? [id]),
    );
    expect(new Set(stored).size).to.equal(20_000);
  });
});
