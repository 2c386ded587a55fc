/** A source as it was at a time: the entries that a restore `--at` writes. */
import { expect } from "chai";
import { unlinkSync } from "node:fs";
import { systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, contentOf, upsert } from "../support/engine-rig.js";
import { backUpFolder } from "../support/restore-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the state of a source at a time", () => {
  const folder = useTempFolder("state-at");

  /** Name and content of every file at a time, in the order given. */
  async function filesAt(repository: Repository, atMs: number): Promise<string[]> {
    const lines: string[] = [];
    for await (const { path, node } of repository.entriesAt("docs", atMs, UNLIMITED)) {
      if (node.kind !== "file") continue;
      lines.push(`${path.slice(folder().bytes("data").length + 1)}=${(await contentOf(repository, node)).toString()}`);
    }
    return lines;
  }

  async function later(sinceMs: number): Promise<void> {
    while (systemClock.nowMs() <= sinceMs) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  it("tells what commits after a number made, and what was removed, also after the index was made again", async () => {
    const rig = await EngineRig.create(folder());
    const path = (name: string): BytePath => folder().bytes("data", name);
    let seq: number;
    {
      await using repository = await rig.open();
      for (const name of ["a", "b", "c"]) await folder().write(`data/${name}`, name);
      ({ seq } = await upsert(repository, "docs", [path("a"), path("b")]));
      expect(repository.lastChange("docs")).to.equal(seq);
      await upsert(repository, "docs", [path("c")]);
      await repository.commitChanges("docs", [{ path: path("b"), kind: "remove" }], UNLIMITED);
      expect(repository.lastChange("docs")).to.be.above(seq);
    }
    for (const stateDir of [rig.stateDir, folder().at("another-state")]) {
      await using repository = await rig.open({ stateDir });
      expect(repository.lastChange("docs")).to.be.above(seq);
      const paths: BytePath[] = [];
      for await (const entry of repository.entriesAfter("docs", seq)) paths.push(entry.path);
      expect(paths).to.deep.equal([path("c")]);
      const removed = ["a", "b", "c", "never"].map((name) => repository.isRemoved("docs", path(name)));
      expect(await Promise.all(removed)).to.deep.equal([false, true, false, false]);
    }
  });

  it("has of every path the newest version that is not younger, in path order, and nothing that was gone", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    const path = (name: string): BytePath => folder().bytes("data", name);
    const commit = async (name: string, content: string): Promise<number> => {
      await folder().write(`data/${name}`, content);
      const { timeMs } = await upsert(repository, "docs", [path(name)]);
      await later(timeMs);
      return timeMs;
    };
    const begin = await commit("b", "b1");
    const second = await commit("a", "a1");
    const third = await commit("b", "b2");
    const removal = await repository.commitChanges("docs", [{ path: path("a"), kind: "remove" }], UNLIMITED);
    await later(removal.timeMs);
    const back = await commit("a", "a2");
    expect(await filesAt(repository, begin - 1)).to.deep.equal([]);
    expect(await filesAt(repository, begin)).to.deep.equal(["b=b1"]);
    expect(await filesAt(repository, second)).to.deep.equal(["a=a1", "b=b1"]);
    expect(await filesAt(repository, third)).to.deep.equal(["a=a1", "b=b2"]);
    expect(await filesAt(repository, removal.timeMs)).to.deep.equal(["b=b2"]);
    expect(await filesAt(repository, back)).to.deep.equal(["a=a2", "b=b2"]);
  });

  it("leaves out what a backup no longer found, and still has it before", async () => {
    const rig = await EngineRig.create(folder());
    await using repository = await rig.open();
    await folder().write("data/kept", "1");
    await folder().write("data/lost", "2");
    await backUpFolder(repository, folder().bytes("data"));
    const both = systemClock.nowMs();
    await later(both);
    unlinkSync(folder().at("data/lost"));
    await backUpFolder(repository, folder().bytes("data"));
    expect(await filesAt(repository, both)).to.deep.equal(["kept=1", "lost=2"]);
    expect(await filesAt(repository, systemClock.nowMs())).to.deep.equal(["kept=1"]);
  });
});
