/**
 * A process that works on a repository until it is killed: `engine-child.js FOLDER KEY SEED`. Several writers change
 * files and commit them, while others seal, back up and collect garbage; it prints one line for each thing that was
 * acknowledged: `version NAME SHA256` or `backup ID none`.
 */
import { createHash } from "node:crypto";
import { writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { pathFromText } from "../../src/base/paths.js";
import { gc } from "../../src/engine/gc.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, upsert, walkFolder } from "./engine-rig.js";

const [folderPath = "", key = "", seed = "0"] = process.argv.slice(2);
const WRITERS = 3;
const FILES_EACH = 2;

/** Straight into the pipe: what is acknowledged must be told before the next thing happens. */
function tell(line: string): void {
  writeSync(1, `${line}\n`);
}

/** Content that differs from turn to turn, now small, now of several chunks. */
function contentAt(turn: string, number: number): Buffer {
  const part = createHash("sha256").update(`${seed} ${turn}`).digest();
  const parts = number % 5 === 0 ? 9000 : 1 + (number % 40);
  return Buffer.concat(
    Array.from({ length: parts }, (_, index) => Buffer.concat([part, Buffer.of(index & 255, index >> 8)])),
  );
}

async function write(repository: Repository, writer: number): Promise<void> {
  for (let turn = 0; ; turn += 1) {
    const name = `f${String(writer * FILES_EACH + (turn % FILES_EACH))}`;
    const path = join(folderPath, "data", name);
    writeFileSync(path, contentAt(`${String(writer)} ${String(turn)}`, turn));
    const { stored } = await upsert(repository, "docs", [pathFromText(path)]);
    tell(`version ${name} ${stored[0]?.node.sha256 ?? "none"}`);
  }
}

async function backUp(repository: Repository): Promise<void> {
  const root = pathFromText(join(folderPath, "data"));
  for (;;) {
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    const { backup_id: id } = await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
    tell(`backup ${id} none`);
    await delay(10);
  }
}

async function keepHouse(repository: Repository): Promise<void> {
  for (let turn = Number(seed); ; turn += 1) {
    await delay(5);
    if (turn % 3 === 2) await gc(repository, { dryRun: false }, UNLIMITED);
    else await repository.seal(UNLIMITED);
  }
}

const rig = EngineRig.at(folderPath, { keyBytes: Buffer.from(key, "hex") });
const repository = await rig.open();
await Promise.all([
  ...Array.from({ length: WRITERS }, (_, writer) => write(repository, writer)),
  backUp(repository),
  keepHouse(repository),
]);
