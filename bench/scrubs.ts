/**
 * Bit rot, and what is wrongly taken for it: `node dist/bench/scrubs.js [--scrubs N] [--files N] [--rotten N] [--seed N]`.
 * Files are read and compared N times while a program writes to them in five ways, then some change under the same stat.
 * Prints what was called rotten and what was repaired beside the goals.
 */
import { countScrubs } from "../test/support/scrubs.js";
import { machineText, numberOption, print } from "./harness.js";

const SCRUBS = numberOption("scrubs", 10_000);
const ROTTEN = numberOption("rotten", 40);

async function main(): Promise<void> {
  print(await machineText());
  const seed = numberOption("seed", 1);
  const files = numberOption("files", 100);
  const { scrubs, writes, falsely, found, repaired, faults } = await countScrubs({
    ...{ scrubs: SCRUBS, files, rotten: ROTTEN, seed, pauseMs: 2 },
  });
  const named = falsely.length === 0 ? "" : `: ${falsely.slice(0, 5).join(", ")}`;
  print(
    `${String(scrubs)} scrubs of ${String(files)} files beside ${String(writes)} writes (seed ${String(seed)}): ${String(falsely.length)} false (goal: 0)${named}`,
  );
  print(`rotten files found in one scrub: ${String(found)} of ${String(ROTTEN)} (goal: all)`);
  print(`repaired from the store:         ${String(repaired)} of ${String(ROTTEN)} (goal: all)`);
  for (const fault of faults.slice(0, 5)) print(`fault: ${fault}`);
  process.exitCode = falsely.length === 0 && found === ROTTEN && repaired === ROTTEN && faults.length === 0 ? 0 : 1;
}

await main();
