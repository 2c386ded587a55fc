/**
 * One of many processes on one store: `stress-child.js FOLDER KEY LANE SEED`. A lane that begins with `reader` reads all
 * that it finds and checks the store; any other is a writer with a state folder and files of its own, which waits for its
 * turn, works a few random steps and closes. Each note of a writer is a line: the machine's steady time in ns, and JSON.
 * It ends with 0, with 1 when it was refused in our own words (on its error output), and otherwise in any way.
 */
import { mkdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { hasCode, HoldfastError } from "../../src/base/errors.js";
import { systemClock } from "../../src/base/clock.js";
import { pathText } from "../../src/base/paths.js";
import { check } from "../../src/engine/check.js";
import type { Repository } from "../../src/engine/repository.js";
import type { FileNode } from "../../src/engine/types.js";
import { seededRandom } from "./crash-disk.js";
import { noise } from "./engine-keys.js";
import { contentOf, EngineRig, UNLIMITED } from "./engine-rig.js";
import { FakeClock } from "./fake-clock.js";
import { digestOf, type StoreNote, StoreScenario } from "./store-scenario.js";
import { TempFolder } from "./temp-folder.js";

const [folderPath = "", key = "", lane = "", seed = "0"] = process.argv.slice(2);
const STEPS_MAX = 12;
const FILES = 5;
/** How long a writer waits for its turn: so often, so long, ms. */
const TURNS_MAX = 3000;
const TURN_MS = 20;

const random = seededRandom(Number(seed));
const below = (count: number): number => Math.floor(random() * count);
const rig = EngineRig.at(folderPath, { keyBytes: Buffer.from(key, "hex") });
const stateDir = join(folderPath, `state-${lane}`);

function tell(note: StoreNote): void {
  const text = JSON.stringify(note, (_key, value: unknown) => (value instanceof Map ? [...value] : value));
  writeSync(1, `${String(process.hrtime.bigint())} ${text}\n`);
}

async function openInTurn(): Promise<Repository> {
  for (let turn = 0; ; turn += 1) {
    try {
      return await rig.open({ stateDir });
    } catch (error) {
      if (!hasCode(error, "REPO_LOCKED") || turn === TURNS_MAX) throw error;
      await systemClock.sleep(TURN_MS, UNLIMITED);
    }
  }
}

/** Its own oldest backup goes. */
async function removeBackup(repository: Repository, scenario: StoreScenario): Promise<void> {
  const own = (await repository.listBackups()).find(({ sources }) => sources.some(({ source }) => source === lane));
  if (own !== undefined) await scenario.removeBackup(own.backup_id);
}

async function work(repository: Repository, scenario: StoreScenario): Promise<void> {
  const name = `f${String(below(FILES))}`;
  const dice = random();
  if (dice < 0.5) await scenario.commit(name, noise(1 + below(random() < 0.1 ? 150_000 : 4000), 1 + below(40)));
  else if (dice < 0.6) await scenario.remove(name);
  else if (dice < 0.7) await scenario.seal();
  else if (dice < 0.82) await scenario.backup();
  else if (dice < 0.88) await removeBackup(repository, scenario);
  else await scenario.collect(dice < 0.94 ? undefined : 0);
}

async function write(): Promise<void> {
  mkdirSync(join(folderPath, `data-${lane}`), { recursive: true });
  await using repository = await openInTurn();
  const data = TempFolder.at(join(folderPath, `data-${lane}`));
  const scenario = new StoreScenario(repository, data, new FakeClock(), tell);
  scenario.sourceName = lane;
  for (let step = 1 + below(STEPS_MAX); step > 0; step -= 1) await work(repository, scenario);
}

/** Every file that a reader has found, by a name that says where. */
async function* filesIn(repository: Repository): AsyncGenerator<readonly [string, FileNode]> {
  for (const source of await repository.sourceNames())
    for await (const { path, node } of repository.currentEntries(source)) yield [`${source} ${pathText(path)}`, node];
  for (const { backup_id: id } of await repository.listBackups())
    for await (const { path, node } of repository.backupEntries(id, {}, UNLIMITED))
      yield [`${id} ${pathText(path)}`, node];
}

/** What does not read. Of a listing that does not read the first failure is all there is. */
async function unreadable(repository: Repository): Promise<ReadonlyMap<string, string>> {
  const failures = new Map<string, string>();
  try {
    for await (const [name, node] of filesIn(repository)) {
      if (node.kind !== "file") continue;
      const found = await contentOf(repository, node).then(digestOf, (error: unknown) => String(error));
      if (found !== node.sha256) failures.set(`${name} ${node.sha256 ?? ""}`, found);
    }
  } catch (error) {
    failures.set("listing", String(error));
  }
  return failures;
}

/** Of an index as old as its start something may be gone by now; but what a newer one finds as well must read there. */
async function read(): Promise<void> {
  let before: ReadonlyMap<string, string> = new Map();
  for (let start = 0; start < 4; start += 1) {
    await using repository = await rig.open({ readOnly: true, stateDir });
    const failures = await unreadable(repository);
    const { problems } = await check(repository, { level: "structure" }, UNLIMITED);
    if (problems.length > 0) throw new Error(`a reader beside: ${JSON.stringify(problems)}`);
    if (failures.size === 0) return;
    for (const [name, failure] of failures)
      if (name !== "listing" && before.has(name))
        throw new Error(`still there, and does not read: ${name}: ${failure}`);
    before = failures;
  }
}

try {
  await (lane.startsWith("reader") ? read() : write());
} catch (error) {
  process.stderr.write(error instanceof HoldfastError ? error.code : String(error));
  process.exitCode = error instanceof HoldfastError ? 1 : 2;
}
