/**
 * What nobody wants to happen to files, done to files that the repository was seen to hold: deleted alone, deleted with
 * their folder, emptied, cut off. Each has to come back by itself. Kept below the brakes (`mass`, restores a minute), at
 * which a person is asked.
 */
import { statSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { filesBelow } from "./world.js";
import type { Scene } from "./scene.js";

/** The brakes are 50 losses of a source and 100 restores a minute. */
const HARMS_PER_MINUTE_MAX = 36;
/** At the third restore of one path within 10 minutes a person is asked. */
const HARMS_OF_A_PATH_MAX = 2;
const MINUTE_MS = 60_000;
const TREE_FILES_MAX = 10;
/** npm's own work explains what goes from node_modules within 10 s; more than that on a slow machine. */
const AREAS = ["docs", "docs", "docs", "code", "archive"];

/** Does one harm, if there is a file that it may be done to; false otherwise. */
export async function harmSomething(scene: Scene): Promise<boolean> {
  const { world } = scene;
  const nowMs = performance.now();
  scene.harmTimesMs = scene.harmTimesMs.filter((timeMs) => timeMs > nowMs - MINUTE_MS);
  if (scene.harmTimesMs.length >= HARMS_PER_MINUTE_MAX - TREE_FILES_MAX) return false;
  const area = world.chance.oneOf(AREAS) ?? "docs";
  const path = world.chance.oneOf(world.quietFiles(area).filter((one) => !one.includes("/.git/")));
  if (path === undefined) return false;
  const kind = world.chance.share();
  const done = kind < 0.2 ? await removeFolder(scene, dirname(path)) : await harmOne(scene, path, kind);
  for (let count = 0; count < done; count += 1) scene.harmTimesMs.push(nowMs);
  return done > 0;
}

/** A whole folder goes, when every file in it may. */
async function removeFolder(scene: Scene, folder: string): Promise<number> {
  const { world } = scene;
  const paths = filesBelow(folder);
  if (folder.split("/").length < world.root.split("/").length + 2 || paths.length > TREE_FILES_MAX) return 0;
  for (const path of paths) if (!(await mayBeHarmed(scene, path))) return 0;
  for (const path of paths) world.harm(path, "rm -rf");
  await scene.run(`rm -rf ${quoted(folder)}`);
  return paths.length;
}

async function harmOne(scene: Scene, path: string, kind: number): Promise<number> {
  const { world } = scene;
  if (!(await mayBeHarmed(scene, path))) return 0;
  const sizeBytes = statSync(path).size;
  if (kind < 0.6 || sizeBytes === 0) {
    world.harm(path, "unlink");
    unlinkSync(path);
  } else if (kind < 0.75) {
    world.harm(path, "rm");
    await scene.run(`rm ${quoted(path)}`);
  } else if (kind < 0.9) {
    world.harm(path, "emptied");
    truncateSync(path, 0);
  } else if (path.endsWith(".json")) {
    world.harm(path, "JSON cut off");
    writeFileSync(path, `{"values": [{"id": ${String(world.next())}, "na`);
  } else return 0;
  return 1;
}

/** It is as it should be, the repository holds it like that, and it was not put back before. */
async function mayBeHarmed({ world, daemon }: Scene, path: string): Promise<boolean> {
  if (!world.files.has(path) || world.harms.has(path) || world.healed.has(path)) return false;
  if ((world.harmCounts.get(path) ?? 0) >= HARMS_OF_A_PATH_MAX) return false;
  if (world.isStored(path)) return true;
  const digest = await daemon.newestDigest(path);
  if (digest === undefined) return false;
  world.noteStored(path, digest);
  return world.isStored(path);
}

/** For bash. */
export function quoted(path: string): string {
  return `'${path.replaceAll("'", "'\\''")}'`;
}
