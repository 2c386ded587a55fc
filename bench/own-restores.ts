/**
 * Whether holdfast takes its own restores for somebody's changes: `node dist/bench/own-restores.js [--restores N]
 * [--batch N]`. The watcher and the healer are the real ones, the repository is one in memory. Prints what was heard of the
 * restores beside the goal, which is nothing: a restore that is heard as a change or a loss is the beginning of a loop.
 */
import { countOwnRestores } from "../test/support/own-restores.js";
import { machineText, numberOption, print } from "./harness.js";

const RESTORES = numberOption("restores", 10_000);
const BATCH = numberOption("batch", 500);

async function main(): Promise<void> {
  print(await machineText());
  const started = performance.now();
  const { restores, told, ...faults } = await countOwnRestores({ restores: RESTORES, batch: BATCH });
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  print(
    `${String(restores)} restores of ${String(RESTORES)} in ${seconds} s, ${String(told)} losses told (goal: as many)`,
  );
  for (const [name, list] of Object.entries(faults))
    print(
      `${name.padEnd(10)} ${String(list.length)} (goal: 0)${list.length === 0 ? "" : `: ${list.slice(0, 5).join(", ")}`}`,
    );
  const isMet = restores === RESTORES && told === RESTORES && Object.values(faults).every((list) => list.length === 0);
  process.exitCode = isMet ? 0 : 1;
}

await main();
