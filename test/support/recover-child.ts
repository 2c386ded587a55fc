/**
 * A process that puts a file somewhere without an incident and kills itself once something is staged:
 * `recover-child.js STATE ROOT PATH TAG`.
 */
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.js";
import { pathFromText } from "../../src/base/paths.js";
import { placeFile } from "../../src/recovery/place.js";
import { PlacementNotes } from "../../src/recovery/placement-notes.js";

const [state = "", root = "", path = "", tag = ""] = process.argv.slice(2);
const placement = { root: pathFromText(root), path: pathFromText(path), tag };

await new PlacementNotes(join(state, "recovery/placing"), systemClock).during(placement, async () => {
  await placeFile(
    { ...placement, present: undefined },
    {
      // eslint-disable-next-line @typescript-eslint/require-await -- bytes at hand
      async *open() {
        yield Buffer.from("good");
      },
      sha256: undefined,
      metadata: undefined,
    },
    {
      folderNode: () => undefined,
      announce: () => undefined,
      keepDamaged: () => Promise.resolve(),
      onStep: (reached) => {
        if (reached === "proved") process.kill(process.pid, "SIGKILL");
      },
    },
    new AbortController().signal,
  );
});
