/** Healing below folders that two processes swap for links all the time: not one byte is written outside. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { errnoOf } from "../../src/base/errors.js";
import { type BytePath, pathBytes } from "../../src/base/paths.js";
import { RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The long run is what the goal asks for. */
const ATTACK_MS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 60_000 : 5_000;
const ATTACKER = fileURLToPath(new URL("../support/folder-attacker.js", import.meta.url));
/** So much must have been healed meanwhile, however slow the machine is. */
const HEALED_MIN = 20;
const SLOW_MS = 60_000;
/** As what a deletion is soon after: not even one in the same millisecond. */
const NEVER_MS = -1;
const FOLDERS = 5;
const FILES = 7;

describe("healing under attack", () => {
  const folder = useTempFolder("attack");

  it("writes nothing outside while two processes swap folders and files for links", async () => {
    await using rig = await RecoveryRig.create(folder(), {
      settings: {
        breakerPathRestores: 1e9,
        breakerRestoresPerMinute: 1e9,
        secondDeletionMs: NEVER_MS,
        writerWaitMs: 0,
      },
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
      const startMs = performance.now();
      const lasted = (ms: number): boolean => performance.now() - startMs >= ms;
      while (!lasted(ATTACK_MS) || (!lasted(SLOW_MS) && (await healedBy(rig)) <= HEALED_MIN)) {
        for (const path of paths) removeUnderAttack(path);
        await Promise.all(paths.map(async (path) => await rig.lose(path)));
        await tryAgain(rig);
      }
    } finally {
      for (const attacker of attackers) attacker.kill("SIGKILL");
    }
    await rig.healer.idle();
    // The attackers' own links may land there, when one put a link in a folder that the other had swapped.
    const written = readdirSync(outside).filter((name) => !lstatSync(join(outside, name)).isSymbolicLink());
    expect(written).to.deep.equal(["bait"]);
    expect(readFileSync(folder().at("outside/bait"), "utf8")).to.equal("untouched");
    const after = lstatSync(folder().at("outside/bait"), { bigint: true });
    expect([after.mtimeNs, after.mode, after.uid, after.nlink]).to.deep.equal([
      before.mtimeNs,
      before.mode,
      before.uid,
      before.nlink,
    ]);
    expect(await healedBy(rig), "the attack did not stop all healing").to.be.greaterThan(HEALED_MIN);
    await rig.healer[Symbol.asyncDispose]();
    rmSync(folder().at("data"), { recursive: true });
    mkdirSync(folder().at("data"));
  }).timeout(ATTACK_MS + SLOW_MS + 60_000);
});

/** What failed because the attack was in the way waits for the next try, which is long in coming without a person. */
async function tryAgain(rig: RecoveryRig): Promise<void> {
  const open = await rig.healer.incidents({ onlyOpen: true, limit: 1000 });
  const failed = open.filter(({ state }) => state === "failed");
  await Promise.all(failed.map(async ({ id }) => await rig.healer.approve(id, new AbortController().signal)));
}

async function healedBy(rig: RecoveryRig): Promise<number> {
  const incidents = await rig.healer.incidents({ onlyOpen: false, limit: 100_000 });
  return incidents.filter(({ state }) => state === "healed").length;
}

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
