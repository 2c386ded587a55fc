/**
 * Ordinary work over protected files, and what holdfast would wrongly restore of it: `node dist/bench/benign.js
 * [--rounds N] [--only WORD] [--no-actors]`. Every workflow runs N times by its own programs; a loss that is told is a restore that
 * nobody wanted. The goal is none.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { WatchBench } from "../test/support/watch-bench.js";
import { WORKFLOWS, type Workflow } from "../test/support/workflows.js";
import { machineText, numberOption, print } from "./harness.js";

const ROUNDS = numberOption("rounds", 20);
const ACTORS = !process.argv.includes("--no-actors");
/** After the grace and the judging. */
const QUIET_MS = 800;

async function bash(script: string, folder: string): Promise<void> {
  const child = spawn("bash", ["-ec", script], { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`${script.split("\n")[0] ?? ""}: ended with ${String(code)}`);
}

/** Paths that were told as lost. All rounds of a workflow run at once, each in a source folder of its own. */
async function falseLosses(workflow: Workflow): Promise<readonly string[]> {
  await using bench = await WatchBench.create({ actors: ACTORS });
  const folders = Array.from({ length: ROUNDS }, (_none, index) => bench.folder.at(`round-${String(index)}`));
  for (const folder of folders) {
    mkdirSync(join(folder, "p"), { recursive: true });
    await bash(workflow.prepare, join(folder, "p"));
  }
  await bench.protect({ mass: { files: 1_000_000, share: 1 } });
  await bench.quiet(QUIET_MS, 120_000);
  bench.clear();
  for (const folder of folders) await bash(workflow.script, join(folder, "p"));
  await bench.quiet(QUIET_MS, 120_000);
  const losses = [...bench.losses, ...bench.events("mass.loss").flatMap((event) => event.losses)];
  return losses.map(({ path, kind }) => `${kind} ${path.slice(bench.folder.path.length + 1)}`);
}

async function main(): Promise<void> {
  print(await machineText());
  let count = 0;
  let ran = 0;
  const only = process.argv[process.argv.indexOf("--only") + 1];
  for (const workflow of WORKFLOWS) {
    if (process.argv.includes("--only") && !workflow.name.includes(only ?? "")) continue;
    const missing = workflow.needs.find((name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0);
    if (missing !== undefined) {
      print(`${workflow.name.padEnd(40)} skipped: ${missing} is not installed`);
      continue;
    }
    const losses = await falseLosses(workflow);
    ran += 1;
    count += losses.length;
    const seen = losses.length === 0 ? "" : `: ${losses.slice(0, 3).join(", ")}`;
    print(`${workflow.name.padEnd(40)} ${String(losses.length)} wrongly told in ${String(ROUNDS)} rounds${seen}`);
  }
  print(`${String(count)} false restores in ${String(ran)} workflows x ${String(ROUNDS)} (goal: 0)`);
  process.exitCode = count === 0 ? 0 : 1;
}

await main();
