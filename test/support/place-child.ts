/** A process that places a file and kills itself at one step: `place-child.js PATH ROOT missing|damaged|saved_over STEP KEPT`. */
import { copyFileSync, lstatSync, renameSync, writeFileSync } from "node:fs";
import { pathFromText } from "../../src/base/paths.js";
import { placeFile } from "../../src/recovery/place.js";
import { tupleOf } from "../../src/recovery/place-parents.js";

const [path = "", root = "", kind = "", step = "", kept = ""] = process.argv.slice(2);

await placeFile(
  {
    path: pathFromText(path),
    root: pathFromText(root),
    present: kind !== "missing" ? tupleOf(lstatSync(path, { bigint: true })) : undefined,
    tag: "inc",
  },
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
    keepDamaged: (folder, name) => {
      copyFileSync(folder.at(name), kept);
      return Promise.resolve();
    },
    onStep: (reached) => {
      if (kind === "saved_over" && reached === "looked") {
        writeFileSync(`${path}.new`, "saved meanwhile");
        renameSync(`${path}.new`, path);
      }
      if (reached === step) process.kill(process.pid, "SIGKILL");
    },
  },
  new AbortController().signal,
);
