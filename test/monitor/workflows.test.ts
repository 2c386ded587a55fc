/** Ordinary work that takes files away: a share of what `npm run bench:benign` runs many times. */
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { expect } from "chai";
import { hasProgram, requirePrograms } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";
import { WORKFLOWS } from "../support/workflows.js";

describe("ordinary work", () => {
  it("takes nothing away that is then told as lost, all kinds of it at once", async () => {
    await using bench = await WatchBench.create();
    const workflows = WORKFLOWS.filter(
      ({ needs, needsActor, isSlow }) => needsActor !== true && isSlow !== true && needs.every(hasProgram),
    );
    const run = (index: number, script: string): void => {
      const cwd = bench.folder.at(`work-${String(index)}/p`);
      mkdirSync(cwd, { recursive: true });
      execFileSync("bash", ["-ec", script], { cwd, stdio: ["ignore", "ignore", "inherit"] });
    };
    for (const [index, { prepare }] of workflows.entries()) run(index, prepare);
    await bench.protect();
    await bench.quiet();
    bench.clear();
    for (const [index, { script }] of workflows.entries()) run(index, script);
    await bench.quiet(800);
    const told = [...bench.losses, ...bench.events("mass.loss").flatMap(({ losses }) => losses)];
    expect(told.map(({ kind, path }) => `${kind} ${path}`)).to.deep.equal([]);
  });

  it("is known as git's also when it is heard of late", async function () {
    requirePrograms(this, "git");
    await using bench = await WatchBench.create();
    const git = (...args: string[]): void => void execFileSync("git", args, { cwd: bench.folder.path });
    for (let index = 0; index < 20; index += 1)
      await bench.folder.write(`f${String(index)}.txt`, `file ${String(index)}`);
    git("init", "-q");
    git("add", ".");
    await bench.protect({ mode: "protect" });
    await bench.quiet();
    bench.clear();
    git("rm", "-q", "--cached", "f1.txt");
    rmSync(bench.folder.at("f1.txt"));
    // Nothing in this process can hear of it meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2300);
    await bench.until("the removal is told", () => bench.told.length > 0);
    await bench.quiet();
    expect(bench.losses).to.deep.equal([]);
    expect(bench.paths("file.removed")).to.deep.equal(["f1.txt"]);
  });
});
