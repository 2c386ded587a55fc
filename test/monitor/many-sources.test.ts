/** Many sources at once, sources within each other, and roots within roots: nothing is missed, nothing told twice by one. */
import { appendFileSync, unlinkSync } from "node:fs";
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { FileSource } from "../../src/sources/files.js";
import { WatchBench } from "../support/watch-bench.js";

/** A few where every second counts. */
const COUNT = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 100 : 20;

describe("many sources", () => {
  it("are watched at once: a change and a loss in each is told by its source alone", async () => {
    await using bench = await WatchBench.create();
    const names = Array.from({ length: COUNT }, (_none, index) => `source-${String(index)}`);
    for (const name of names) await bench.folder.write(`${name}/gone.txt`, name);
    for (const name of names) await bench.folder.write(`${name}/file.txt`, name);
    const add = async (name: string): Promise<void> => {
      const source = new FileSource({ name, paths: [bench.folder.bytes(name)], ownFolders: [bench.state.bytes()] });
      await bench.monitor.addSource(source, { mass: { minFiles: 100, files: 100, share: 1 } }, bench.signal.signal);
    };
    await Promise.all(names.map(add));
    await bench.quiet();
    const states = bench.monitor.status().map(({ state, ears }) => `${state} by ${ears}`);
    expect(new Set(states)).to.deep.equal(new Set(["protected by inotify"]));
    bench.clear();
    for (const name of names) appendFileSync(bench.folder.at(`${name}/file.txt`), " and more");
    for (const name of names) unlinkSync(bench.folder.at(`${name}/gone.txt`));
    await bench.until("all losses", () => bench.losses.length >= COUNT);
    await bench.until("all changes", () => new Set(bench.events("file.changed").map(({ path }) => path)).size >= COUNT);
    expect(bench.losses).to.have.length(COUNT);
    for (const { source, path } of [...bench.losses, ...bench.events("file.changed")])
      expect(path.startsWith(`${bench.folder.path}/${source}/`), `${source} told of ${path}`).to.equal(true);
    expect(bench.faults).to.deep.equal([]);
  });

  it("may lie within each other: each tells of what is its own, and one that goes leaves the others watched", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("outer/inner/file.txt", "content");
    await bench.folder.write("outer/beside.txt", "content");
    const add = async (name: string, path: string): Promise<void> => {
      const source = new FileSource({ name, paths: [bench.folder.bytes(path)], ownFolders: [bench.state.bytes()] });
      await bench.monitor.addSource(source, {}, bench.signal.signal);
    };
    await add("outer", "outer");
    await add("inner", "outer/inner");
    await add("same", "outer/inner");
    await bench.quiet();
    bench.clear();
    appendFileSync(bench.folder.at("outer/inner/file.txt"), " and more");
    const told = (): readonly string[] => [...new Set(bench.events("file.changed").map(({ source }) => source))].sort();
    await bench.until("all tell of it", () => told().length === 3);
    await bench.quiet();
    await bench.monitor.removeSource("inner");
    await bench.monitor.removeSource("outer");
    bench.clear();
    unlinkSync(bench.folder.at("outer/inner/file.txt"));
    await bench.until("the last one tells", () => bench.losses.length > 0);
    expect(bench.losses.map(({ source }) => source)).to.deep.equal(["same"]);
  });

  it("may have roots within roots: each path is known once", async () => {
    await using bench = await WatchBench.create();
    await bench.folder.write("outer/inner/file.txt", "content");
    await bench.folder.write("outer/beside.txt", "content");
    const paths = ["outer", "outer/inner", "outer/inner/file.txt"].map((path) => pathFromText(bench.folder.at(path)));
    await bench.protect({}, { paths });
    await bench.quiet();
    expect([...(await bench.live())].sort()).to.deep.equal(["outer/beside.txt", "outer/inner/file.txt"]);
    expect(bench.monitor.status()[0]?.files).to.equal(2);
    bench.clear();
    unlinkSync(bench.folder.at("outer/inner/file.txt"));
    await bench.until("the loss", () => bench.losses.length > 0);
    await bench.quiet();
    expect(bench.losses).to.have.length(1);
  });
});
