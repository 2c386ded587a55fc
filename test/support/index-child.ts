/**
 * Uses a repository whose local index may be damaged, in a process that LevelDB may end:
 * `index-child.js FOLDER KEY [deleted|overwritten|truncated|failing]`. Without a harm it reads all that the index tells. With one
 * it harms the index while it is open (`failing`: whoever reads its output does, once it told of the first commit, and
 * then says so on its input) and goes on to work; each note of what was acknowledged is a line of JSON. It ends with 0, or with 1
 * when it was refused in our own words, which are on its error output.
 */
import { once } from "node:events";
import { open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { writeSync } from "node:fs";
import { HoldfastError } from "../../src/base/errors.js";
import type { Repository } from "../../src/engine/repository.js";
import { noise } from "./engine-keys.js";
import { EngineRig } from "./engine-rig.js";
import { FakeClock } from "./fake-clock.js";
import { pictureOf, type StoreNote, StoreScenario } from "./store-scenario.js";
import { TempFolder } from "./temp-folder.js";

const [folderPath = "", key = "", harm = ""] = process.argv.slice(2);

function tell(note: StoreNote): void {
  writeSync(1, `${JSON.stringify(note, (_key, value: unknown) => (value instanceof Map ? [...value] : value))}\n`);
}

async function writeInPlace(file: string, bytes: Buffer): Promise<void> {
  await using handle = await open(file, "r+");
  await handle.write(bytes, 0, bytes.length, 0);
}

async function harmIndex(): Promise<void> {
  if (harm === "failing") {
    await once(process.stdin, "data");
    process.stdin.destroy();
    return;
  }
  const index = join(folderPath, "state", "index");
  for (const name of (await readdir(index)).filter((each) => each !== "LOCK")) {
    const file = join(index, name);
    if (harm === "deleted") await rm(file);
    else if (harm === "truncated") await truncate(file, 0);
    else await writeInPlace(file, noise((await stat(file)).size, 5));
  }
}

async function useWhileHarmed(repository: Repository): Promise<void> {
  const scenario = new StoreScenario(repository, TempFolder.at(join(folderPath, "data")), new FakeClock(), tell);
  await scenario.commit("a", `before it was ${harm}`);
  await harmIndex();
  for (let turn = 0; turn < 20; turn += 1) await scenario.commit(`f${String(turn % 5)}`, `${harm} ${String(turn)}`);
  await scenario.backup();
}

try {
  await using repository = await EngineRig.at(folderPath, { keyBytes: Buffer.from(key, "hex") }).open();
  if (harm === "") await pictureOf(repository);
  else await useWhileHarmed(repository);
} catch (error) {
  if (!(error instanceof HoldfastError)) throw error;
  process.stderr.write(error.code);
  process.exitCode = 1;
}
