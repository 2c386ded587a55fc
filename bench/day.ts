/**
 * A working day of a developer and an admin, written as a script of timed deeds (test/support/day) and played with the
 * pauses left out: `node dist/bench/day.js [--seed N] [--losses N] [--no-actors]`. Prints what of the work was restored,
 * what alarms there were, and how many of the unmeant losses came back, beside the goals.
 */
import { dayOf, replayDay } from "../test/support/day/replay.js";
import { machineText, numberOption, print } from "./harness.js";

const ACTORS = !process.argv.includes("--no-actors");
const GAP_MS = 60;

async function main(): Promise<void> {
  print(await machineText());
  const deeds = dayOf(numberOption("seed", 1), numberOption("losses", 40));
  const started = performance.now();
  const { lost, healed, falseRestores, falseAlarms, faults } = await replayDay(deeds, {
    actors: ACTORS,
    gapMs: GAP_MS,
  });
  print(`${String(deeds.length)} deeds of a day in ${((performance.now() - started) / 1000).toFixed(0)} s`);
  print(`false restores: ${listed(falseRestores)} (goal: 0)`);
  print(`false alarms:   ${listed(falseAlarms)} (goal: 0)`);
  print(`unmeant losses healed: ${String(healed)} of ${String(lost)} files (goal: all)`);
  for (const fault of faults.slice(0, 5)) print(`fault: ${fault}`);
  const isMet = healed === lost && [falseRestores, falseAlarms, faults].every((list) => list.length === 0);
  process.exitCode = isMet ? 0 : 1;
}

function listed(list: readonly string[]): string {
  return [String(list.length), ...list.slice(0, 8)].join(" ");
}

await main();
