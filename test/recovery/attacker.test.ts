/** Healing below folders that two processes swap for links all the time: not one byte is written outside. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { errnoOf } from "../../src/base/errors.js";
import { type BytePath, pathBytes } from "../../src/base/paths.js";
import { RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The long run is what the goal asks for. */
const ATTACK_MS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 60_000 : 5_000;
const ATTACKER = fileURLToPath(new URL("../support/folder-attacker.js", import.meta.url));
const FOLDERS = 5;
const FILES = 7;

describe("healing under attack", () => {
  const folder = useTempFolder("attack");

  it("writes nothing outside while two processes swap folders and files for links", async () => {
    await using rig = await RecoveryRig.create(folder(), {
      settings: { breakerPathRestores: 1e9, breakerRestoresPerMinute: 1e9, secondDeletionMs: 0, writerWaitMs: 0 },
    });
    const paths = [];
    for (let index = 0; index < FOLDERS * FILES; index += 1)
      paths.push(await rig.protect(`d${String(index % FOLDERS)}/f${String(index % FILES)}`, `good ${String(index)}`));
    const outside = await folder().folder("outside");
    await folder().write("outside/bait", "untouched");
    const before = lstatSync(folder().at("outside/bait"), { bigint: true });
    await rig.start();
    const attackers = await Promise.all([0, 1].map(async (seed) => await attack(folder().at("data"), outside, seed)));
    try {
      const endMs = performance.now() + ATTACK_MS;
      while (performance.now() < endMs) {
        for (const path of paths) removeUnderAttack(path);
        await Promise.all(paths.map(async (path) => await rig.lose(path)));
      }
    } finally {
      for (const attacker of attackers) attacker.kill("SIGKILL");
    }
    await rig.healer.idle();
    expect(readdirSync(outside)).to.deep.equal(["bait"]);
    expect(readFileSync(folder().at("outside/bait"), "utf8")).to.equal("untouched");
    const after = lstatSync(folder().at("outside/bait"), { bigint: true });
    expect([after.mtimeNs, after.mode, after.uid, after.nlink]).to.deep.equal([
      before.mtimeNs,
      before.mode,
      before.uid,
      before.nlink,
    ]);
    const healed = (await rig.healer.incidents({ onlyOpen: false, limit: 100_000 })).filter(
      ({ state }) => state === "healed",
    );
    expect(healed.length, "the attack did not stop all healing").to.be.greaterThan(20);
    await rig.healer[Symbol.asyncDispose]();
    rmSync(folder().at("data"), { recursive: true });
    mkdirSync(folder().at("data"));
  }).timeout(ATTACK_MS + 60_000);
});

/** What is there; a folder that an attacker swapped for a file or a link in this moment hides it, which is as well. */
function removeUnderAttack(path: BytePath): void {
  try {
    rmSync(pathBytes(path), { force: true, recursive: true });
  } catch (error) {
    if (!["ENOTDIR", "ELOOP", "ENOENT"].includes(errnoOf(error) ?? "")) throw error;
  }
}

async function attack(root: string, outside: string, seed: number): Promise<ChildProcess> {
  const child = fork(ATTACKER, [root, outside, String(seed)]);
  await once(child, "message");
  return child;
}
