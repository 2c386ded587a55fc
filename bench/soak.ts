/**
 * Random activity, random harm and random kills under the built daemon: `node dist/bench/soak.js [--minutes N] [--seed S]
 * [--keep FOLDER]`. At the end the registry equals the disk, every harm is healed and nothing that was meant to go came
 * back, or the exit code is 1 and each finding is printed with what was done to its path. `--keep` keeps log and story.
 */
import { soak } from "../test/support/soak/soak.js";
import { latencyText, machineText, numberOption, print } from "./harness.js";

const MINUTE_MS = 60_000;
/** When everything is told, nothing should keep the process alive for so long. */
const ALIVE_AFTER_MS = 2_000;

const seed = numberOption("seed", (Math.floor(performance.timeOrigin) % 1_000_000) + 1);
const minutes = numberOption("minutes", 30);
const keep = process.argv.indexOf("--keep");
const keepAt = keep < 0 ? undefined : process.argv[keep + 1];

print(await machineText());
print(`${String(minutes)} minutes, seed ${String(seed)}`);
const outcome = await soak({
  seed,
  activeMs: minutes * MINUTE_MS,
  killEveryMs: [2_000, 20_000],
  progress: print,
  ...(keepAt === undefined ? {} : { keepAt }),
});
print([...outcome.activities].map(([name, count]) => `${name} ${String(count)}`).join(", "));
print(
  `${String(outcome.harms)} harms; the daemon was killed ${String(outcome.kills)} times, stopped ${String(outcome.stops)} times, ` +
    `its watcher killed ${String(outcome.watcherKills)} times; ${String(outcome.files)} files at the end, ${String(outcome.incidents)} incidents`,
);
print(`harmed -> seen to be back, down times included: ${latencyText(outcome.healedAfterMs)}`);
print(outcome.findings === 0 ? "nothing was found wrong (goal: 0)" : `${String(outcome.findings)} FINDINGS`);
if (outcome.findings > 0) print(outcome.report);
const afterwards = setTimeout(() => {
  print(`the process still lives, for ${process.getActiveResourcesInfo().join(", ")}`);
}, ALIVE_AFTER_MS);
afterwards.unref();
process.exitCode = outcome.findings === 0 ? 0 : 1;
