/** A walk in stretches: together they give what one walk gives, whatever the borders. */
import { mkdirSync, rmSync } from "node:fs";
import { expect } from "chai";
import fc from "fast-check";
import { type BytePath, joinPath, pathBytes } from "../../src/base/paths.js";
import { WalkedBatch, type WalkedColumns } from "../../src/engine/walked-batch.js";
import { FileSource } from "../../src/sources/files.js";
import { Selection } from "../../src/sources/selection.js";
import { WalkTeam } from "../../src/sources/walk-team.js";
import { TreeWalk, type WalkedEntry } from "../../src/sources/walk-tree.js";
import { useTempFolder } from "../support/temp-folder.js";

const NEVER = new AbortController().signal;
/** Names whose order differs from that of what lies below them: "-" and "." come before "/", "0" after it. */
const NAMES = ["a", "a-b", "a.b", "a0", "b", "\xff", "\x01"];

describe("a walk in stretches", () => {
  const folder = useTempFolder();

  function selection(): Selection {
    const root = { folder: folder().bytes(), whole: true, shallow: false };
    return new Selection({ roots: [root], exclude: ["b/"], ownFolders: [], crossMounts: false });
  }

  function walked(borders: readonly (BytePath | undefined)[]): WalkedEntry[] {
    const entries: WalkedEntry[] = [];
    for (const [index, from] of borders.entries()) {
      const walk = new TreeWalk(selection(), { start: folder().bytes(), from, before: borders[index + 1] });
      for (let entry = walk.next(); entry !== undefined; entry = walk.next()) entries.push(entry);
    }
    return entries;
  }

  function makeTree(below: BytePath, depth: number): void {
    for (const name of NAMES) {
      const path = joinPath(below, name);
      mkdirSync(pathBytes(path));
      if (depth > 1) makeTree(path, depth - 1);
    }
  }

  it("gives each entry once and in the same order, wherever it is parted", () => {
    makeTree(folder().bytes(), 3);
    const whole = walked([undefined]);
    expect(whole.length).to.be.greaterThan(200);
    const name = fc.constantFrom(...NAMES, "", "a/", "/", "c", "a-", "\xff\xff");
    const border = fc
      .array(name, { maxLength: 4 })
      .map((names) => `${folder().bytes()}/${names.join("/")}` as BytePath);
    fc.assert(
      fc.property(fc.uniqueArray(border, { maxLength: 4 }), (borders) => {
        expect(walked([undefined, ...borders.sort()])).to.deep.equal(whole);
      }),
      { numRuns: 60 },
    );
  });

  it("does not look at what lies before and after it", () => {
    makeTree(folder().bytes(), 2);
    const [from, before] = [folder().bytes("a-b"), folder().bytes("a-b/b")];
    const walk = new TreeWalk(selection(), { start: folder().bytes(), from, before });
    const found: WalkedEntry[] = [];
    for (let entry = walk.next(); entry !== undefined; entry = walk.next()) {
      // What would follow may be gone without being missed.
      if (found.length === 0) rmSync(folder().at("a0"), { recursive: true });
      found.push(entry);
    }
    const all = ["a-b", ...["\x01", "a", "a-b", "a.b", "a0"].map((name) => `a-b/${name}`)];
    expect(found.map(({ path }) => path)).to.deep.equal(all.map((path) => folder().bytes(path)));
  });

  it("comes out of several threads as it comes out of one, also of several roots", async () => {
    makeTree(folder().bytes(), 3);
    const paths = ["a", "a0", "\xff"].map((name) => joinPath(folder().bytes(), name));
    const source = new FileSource({ name: "data", paths });
    const one: WalkedEntry[] = [];
    for await (const batch of source.walk(NEVER)) one.push(...batch);
    const borders = ["a/a", "a/b/c", "a0/\xff", "b", "a/a", "\xff"].map((path) => joinPath(folder().bytes(), path));
    const parted: WalkedEntry[] = [];
    for await (const batch of source.walkPacked(NEVER, borders)) parted.push(...batch);
    expect(parted).to.deep.equal(one);
  });

  it("gives all when the threads that are ahead have to wait for the reader", async () => {
    makeTree(folder().bytes(), 3);
    const whole = walked([undefined]);
    const borders = [...NAMES].sort().map((name) => joinPath(folder().bytes(), name));
    const stretches = [undefined, ...borders].map((from, index) => ({
      ...{ start: folder().bytes(), from, before: borders[index] },
    }));
    await using team = new WalkTeam<WalkedColumns>(
      { spec: selection().spec, tells: "entries", batchMax: 2, stretches, walkers: 3 },
      NEVER,
    );
    const found: WalkedEntry[] = [];
    for (let batch = await team.next(); batch !== undefined; batch = await team.next()) {
      found.push(...new WalkedBatch(batch));
    }
    expect(found).to.deep.equal(whole);
  });

  it("ends with the reason of the signal, whichever thread is at work", async () => {
    makeTree(folder().bytes(), 2);
    const stop = new AbortController();
    const source = new FileSource({ name: "data", paths: [folder().bytes()] });
    const walk = source.walkPacked(stop.signal, [folder().bytes("a"), folder().bytes("b")]);
    await walk.next();
    stop.abort(new Error("enough"));
    let failure: unknown;
    try {
      for await (const batch of walk) expect(batch.length).to.be.greaterThan(0);
    } catch (error) {
      failure = error;
    }
    expect((failure as Error).message).to.equal("enough");
  });
});
