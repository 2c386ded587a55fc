/** A process that restores the latest backup and is killed meanwhile: `restore-child.js STORE STATE KEYHEX TARGET`. */
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { pathFromText } from "../../src/base/paths.js";
import { Repository } from "../../src/engine/repository.js";
import { UNLIMITED } from "./engine-rig.js";
import { restoreLatest } from "./restore-rig.js";

const [storeUrl = "", stateDir = "", keyHex = "", target = ""] = process.argv.slice(2);

await using repository = await Repository.open({
  storeUrl,
  stateDir,
  unlock: { keyBytes: Buffer.from(keyHex, "hex") },
  readOnly: true,
  workers: 1,
  clock: systemClock,
  observer: silentObserver,
  signal: UNLIMITED,
});
process.stdout.write("begin\n");
for (;;) await restoreLatest(repository, pathFromText(target));
