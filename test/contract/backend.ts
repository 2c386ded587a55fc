/** What every backend must do: `backendContract("local", make)` declares the suite. Also run by `holdfast check --backend`. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import type { Backend } from "../../src/storage/backend.js";
import { codeOf, NEVER } from "../support/engine-keys.js";

async function keysOf(backend: Backend, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of backend.list(prefix, NEVER)) keys.push(key);
  return keys;
}

async function stage(backend: Backend, content: Uint8Array): Promise<string> {
  const path = join(backend.stagingFolder, `staged-${randomBytes(6).toString("hex")}`);
  await writeFile(path, content);
  return path;
}

/** Declares the suite. `make` gives a new, empty backend each time; its staging folder must exist. */
export function backendContract(name: string, make: () => Promise<Backend>): void {
  describe(`backend contract: ${name}`, () => {
    let backend: Backend;
    beforeEach(async () => {
      backend = await make();
    });
    afterEach(async () => {
      await backend[Symbol.asyncDispose]();
    });
    declareReading(() => backend);
    declareWriting(() => backend);
    declareRefusing(() => backend);
  });
}

function declareReading(current: () => Backend): void {
  it("gives back what was put, whole and in ranges", async () => {
    const backend = current();
    const content = randomBytes(10_000);
    await backend.put("packs/d/ab/one", content, NEVER);
    expect((await backend.get("packs/d/ab/one", NEVER)).equals(content)).to.equal(true);
    const range = await backend.getRange("packs/d/ab/one", 100, 50, NEVER);
    expect(range.equals(content.subarray(100, 150))).to.equal(true);
    expect((await backend.getRange("packs/d/ab/one", 9990, 50, NEVER)).equals(content.subarray(9990))).to.equal(true);
    expect((await backend.getRange("packs/d/ab/one", 20_000, 50, NEVER)).length).to.equal(0);
    expect((await backend.stat("packs/d/ab/one", NEVER))?.sizeBytes).to.equal(10_000);
  });

  it("keeps an empty object", async () => {
    const backend = current();
    await backend.put("empty", Buffer.alloc(0), NEVER);
    expect((await backend.get("empty", NEVER)).length).to.equal(0);
  });

  it("lists by prefix in key order, without staged files", async () => {
    const backend = current();
    const keys = ["a-b", "a/1", "a/10", "a/2", "a/b/c", "ab/1", "b"];
    for (const key of [...keys].reverse()) await backend.put(key, Buffer.from(key), NEVER);
    await stage(backend, Buffer.from("in work"));
    expect(await keysOf(backend, "")).to.deep.equal([...keys].sort());
    expect(await keysOf(backend, "a/")).to.deep.equal(["a/1", "a/10", "a/2", "a/b/c"]);
    expect(await keysOf(backend, "a/1")).to.deep.equal(["a/1", "a/10"]);
    expect(await keysOf(backend, "a")).to.deep.equal(["a-b", "a/1", "a/10", "a/2", "a/b/c", "ab/1"]);
    expect(await keysOf(backend, "nothing/")).to.deep.equal([]);
  });

  it("says of a missing object that it is missing", async () => {
    const backend = current();
    expect(await codeOf(backend.get("no/such", NEVER))).to.equal("OBJECT_MISSING");
    expect(await codeOf(backend.getRange("no/such", 0, 1, NEVER))).to.equal("OBJECT_MISSING");
    expect(await backend.stat("no/such", NEVER)).to.equal(undefined);
    await backend.put("no", Buffer.from("a file where a folder would be"), NEVER);
    expect(await codeOf(backend.get("no/such", NEVER))).to.equal("OBJECT_MISSING");
  });
}

function declareWriting(current: () => Backend): void {
  it("adopts a staged file, which is gone afterwards", async () => {
    const backend = current();
    const path = await stage(backend, Buffer.from("staged"));
    await backend.putFile("index/a", path, NEVER);
    expect((await backend.get("index/a", NEVER)).toString()).to.equal("staged");
    expect(await codeOf(backend.putFile("index/b", path, NEVER))).to.not.equal("none");
  });

  it("takes an equal object again, so that a retry is harmless", async () => {
    const backend = current();
    await backend.put("config/1", Buffer.from("same"), NEVER);
    await backend.put("config/1", Buffer.from("same"), NEVER);
    await backend.putFile("config/1", await stage(backend, Buffer.from("same")), NEVER);
    expect((await backend.get("config/1", NEVER)).toString()).to.equal("same");
    expect(await keysOf(backend, "")).to.deep.equal(["config/1"]);
  });

  it("never overwrites: another object of that key is OBJECT_EXISTS and the first stays", async () => {
    const backend = current();
    await backend.put("config/1", Buffer.from("first"), NEVER);
    expect(await codeOf(backend.put("config/1", Buffer.from("other"), NEVER))).to.equal("OBJECT_EXISTS");
    expect(await codeOf(backend.put("config/1", Buffer.from("secon"), NEVER))).to.equal("OBJECT_EXISTS");
    const staged = await stage(backend, Buffer.from("third"));
    expect(await codeOf(backend.putFile("config/1", staged, NEVER))).to.equal("OBJECT_EXISTS");
    expect((await backend.get("config/1", NEVER)).toString()).to.equal("first");
  });

  it("lets exactly one of many writers of a key win", async () => {
    const backend = current();
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        codeOf(backend.put("commits/w/1", Buffer.from(`writer ${index}`), NEVER)),
      ),
    );
    expect(outcomes.filter((code) => code === "none").length).to.equal(1);
    expect(outcomes.filter((code) => code === "OBJECT_EXISTS").length).to.equal(7);
  });
}

function declareRefusing(current: () => Backend): void {
  it("deletes, and takes a missing object for deleted", async () => {
    const backend = current();
    await backend.put("trash", Buffer.from("x"), NEVER);
    await backend.delete("trash", NEVER);
    await backend.delete("trash", NEVER);
    expect(await backend.stat("trash", NEVER)).to.equal(undefined);
  });

  it("refuses keys that are no object names", async () => {
    const backend = current();
    for (const key of ["", "/", "a//b", "../up", "a/../b", ".hidden", "a/.b", "a b", "ä", "a/", "staging/x"]) {
      expect(await codeOf(backend.put(key, Buffer.from("x"), NEVER)), key).to.equal("INTERNAL");
    }
  });

  it("does nothing for a caller that has been aborted", async () => {
    const backend = current();
    const aborted = AbortSignal.abort();
    expect(await codeOf(backend.put("late", Buffer.from("x"), aborted))).to.not.equal("none");
    expect(await backend.stat("late", NEVER)).to.equal(undefined);
  });
}
