/**
 * A process that works on a repository until it is killed: `engine-child.js FOLDER KEY SEED`. It changes files and
 * commits them, seals, backs up and collects garbage, and prints one line for each thing that was acknowledged.
 */
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathFromText } from "../../src/base/paths.js";
import { gc } from "../../src/engine/gc.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, upsert, walkFolder } from "./engine-rig.js";

const [folderPath = "", key = "", seed = "0"] = process.argv.slice(2);
const FILES = 6;

/** Content that differs from turn to turn, now small, now of several chunks. */
function contentAt(turn: number): Buffer {
  const part = createHash("sha256")
    .update(`${seed} ${String(turn)}`)
    .digest();
  return Buffer.concat(
    Array.from({ length: turn % 5 === 0 ? 9000 : 1 + (turn % 40) }, (_, index) =>
      Buffer.concat([part, Buffer.of(index & 255, index >> 8)]),
    ),
  );
}

async function workOn(repository: Repository): Promise<void> {
  const root = pathFromText(join(folderPath, "data"));
  for (let turn = 0; ; turn += 1) {
    const name = `f${String(turn % FILES)}`;
    const bytes = contentAt(turn);
    await writeFile(join(folderPath, "data", name), bytes);
    const path = pathFromText(join(folderPath, "data", name));
    const { stored } = await upsert(repository, "docs", [path]);
    process.stdout.write(`version ${name} ${stored[0]?.node.sha256 ?? "none"}\n`);
    if (turn % 4 === 3) await repository.seal(UNLIMITED);
    if (turn % 9 === 8) {
      const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
      const { backup_id: id } = await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
      process.stdout.write(`backup ${id} none\n`);
    }
    if (turn % 23 === 22) await gc(repository, { dryRun: false }, UNLIMITED);
  }
}

const rig = EngineRig.at(folderPath, { keyBytes: Buffer.from(key, "hex") });
const repository = await rig.open();
process.stdout.write("open now none\n");
await workOn(repository);
