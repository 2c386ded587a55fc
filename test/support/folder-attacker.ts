/**
 * A process that attacks whoever writes below a folder: as fast as it can it swaps sub-folders for links to a place
 * outside, files for links, and back. `folder-attacker.js ROOT OUTSIDE SEED`; it ends when it is killed.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { join } from "node:path";

const [root = "", outside = "", seed = "0"] = process.argv.slice(2);
const pauser = new Int32Array(new SharedArrayBuffer(4));

function attempt(step: () => void): void {
  try {
    step();
  } catch {
    // the other attacker or the victim was faster
  }
}

process.send?.("ready");
for (let round = Number(seed); ; round += 1) {
  const folder = join(root, `d${String(round % 5)}`);
  const away = join(root, `.away-${seed}-${String(round)}`);
  const link = round % 3 === 0 ? join(folder, `f${String(round % 7)}`) : folder;
  attempt(() => renameSync(folder, away));
  attempt(() => symlinkSync(outside, folder));
  Atomics.wait(pauser, 0, 0, Math.random() * 2);
  attempt(() => unlinkSync(folder));
  if (round % 2 === 0) attempt(() => renameSync(away, folder));
  else attempt(() => mkdirSync(folder));
  attempt(() => symlinkSync(join(outside, "bait"), link));
  Atomics.wait(pauser, 0, 0, Math.random());
  attempt(() => unlinkSync(link));
  if (round % 50 === 0)
    for (const name of readdirSync(root))
      if (name.startsWith(`.away-${seed}-`)) attempt(() => rmSync(join(root, name), { recursive: true }));
}
