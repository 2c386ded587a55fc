/** Ordinary work that takes files away: a share of what `npm run bench:benign` runs many times. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { expect } from "chai";
import { hasProgram } from "../support/requirements.js";
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
});
