/**
 * A process that ends itself with SIGKILL right before one file call of the store: `step-child.js FOLDER KEY STEP`. It
 * lives through a small life of a repository, its parity and a rotation of its key, and prints what was acknowledged as
 * a line of JSON each; without a step it comes to its end and prints the number of calls.
 */
import { writeSync } from "node:fs";
import { writeParity } from "../../src/engine/parity.js";
import { EngineRig, UNLIMITED } from "./engine-rig.js";
import { FakeClock } from "./fake-clock.js";
import { FaultIo } from "./fault-io.js";
import { StoreScenario } from "./store-scenario.js";
import { TempFolder } from "./temp-folder.js";

const [folderPath = "", key = "", step = ""] = process.argv.slice(2);

/** Straight into the pipe, before the next thing happens. */
function tell(fact: object): void {
  const text = JSON.stringify(fact, (_name, value: unknown) => (value instanceof Map ? [...value] : value));
  writeSync(1, `${text}\n`);
}

const io = new FaultIo();
io.plan = (_call, _path, index) => {
  if (String(index) === step) process.kill(process.pid, "SIGKILL");
  return undefined;
};
const clock = new FakeClock();
const folder = TempFolder.at(folderPath);
const unlock = { keyBytes: Buffer.from(key, "hex") };
{
  await using repository = await EngineRig.at(folderPath, unlock).open({ io, clock });
  await new StoreScenario(repository, folder.below("data"), clock, (note) => {
    if (note.kind !== "key") tell(note);
  }).run();
  await writeParity(repository, { dataPacks: 3, parityPacks: 2 }, UNLIMITED);
  await repository.rotateKeys({ unlock }, UNLIMITED);
}
tell({ kind: "end", calls: io.calls.length });
