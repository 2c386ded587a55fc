/**
 * A process that is killed at any moment of commits, seals, backups and collections loses nothing that it had
 * acknowledged: many times, with the index kept, deleted, or the whole state folder gone.
 */
import { expect } from "chai";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { check } from "../../src/engine/check.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, UNLIMITED } from "../support/engine-rig.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

const KILLS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 1000 : 40;
/** Repositories that are worked on at once. */
const LANES = 2;
/** A kill comes after up to so many acknowledgements, and a moment. */
const ACKNOWLEDGED_MAX = 40;
const MOMENT_MS_MAX = 12;
/** One in so many kills comes while the repository is being opened. */
const WHILE_OPENING_EVERY = 8;
const OPENING_MS_MAX = 350;
/** After so many kills everything that was acknowledged is read. */
const PROOF_EVERY = 50;
const CHILD = fileURLToPath(new URL("../support/engine-child.js", import.meta.url));

/** A child of the killed process that was proving the index notices within a moment that it is alone, and writes till then. */
const REMOVE = { recursive: true, force: true, maxRetries: 5 } as const;

/** What the processes said was durable. */
interface Acknowledged {
  /** Digests by file name. */
  readonly versions: Map<string, Set<string>>;
  readonly backups: Set<string>;
}

/** Runs a process until it is killed; what it told is added. */
async function workUntilKilled(folder: TempFolder, key: string, kill: number, told: Acknowledged): Promise<void> {
  const child = spawn(process.execPath, [CHILD, folder.path, key, String(kill)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killIn = (ms: number): unknown => setTimeout(() => child.kill("SIGKILL"), ms);
  if (kill % WHILE_OPENING_EVERY === 0) killIn(Math.random() * OPENING_MS_MAX);
  let left = Math.ceil(Math.random() * ACKNOWLEDGED_MAX);
  for await (const line of createInterface({ input: child.stdout })) {
    const [what, name = "", digest = ""] = line.split(" ");
    left -= 1;
    if (left === 0) killIn(Math.random() * MOMENT_MS_MAX);
    // A line that the kill cut off was not told.
    if (what === "backup" && digest === "none") told.backups.add(name);
    if (what !== "version" || digest.length !== DIGEST_LENGTH) continue;
    told.versions.set(name, (told.versions.get(name) ?? new Set()).add(digest));
  }
  expect(child.exitCode, "it ended by itself").to.equal(null);
}

const DIGEST_LENGTH = 64;

/** Every acknowledged version and backup is there and gives the bytes it was made of. */
async function expectAll(repository: Repository, folder: TempFolder, told: Acknowledged): Promise<void> {
  for (const [name, digests] of told.versions) {
    const found = new Set<string>();
    for (const { node } of await repository.versions(folder.bytes("data", name), { limit: 100_000 })) {
      if (node?.sha256 === undefined || found.has(node.sha256)) continue;
      const bytes = await contentOf(repository, node);
      expect(createHash("sha256").update(bytes).digest("hex")).to.equal(node.sha256);
      found.add(node.sha256);
    }
    for (const digest of digests) expect(found.has(digest), `${name} ${digest}`).to.equal(true);
  }
  const known = new Set((await repository.listBackups()).map((manifest) => manifest.backup_id));
  for (const id of told.backups) expect(known.has(id), id).to.equal(true);
  const report = await check(repository, { level: "full" }, UNLIMITED);
  expect(report.problems).to.deep.equal([]);
}

async function killOften(kills: number): Promise<Acknowledged> {
  await using folder = await TempFolder.create("kills", fastTempParent());
  await mkdir(folder.at("data"));
  const rig = await EngineRig.create(folder);
  const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
  const told: Acknowledged = { versions: new Map(), backups: new Set() };
  for (let kill = 1; kill <= kills; kill += 1) {
    await workUntilKilled(folder, key, kill, told);
    if (kill % 10 === 4) await rm(folder.at("state", "index"), REMOVE);
    if (kill % 30 === 19) await rm(folder.at("state"), REMOVE);
    if (kill % PROOF_EVERY !== 0 && kill !== kills) continue;
    await using repository = await rig.open();
    await expectAll(repository, folder, told);
  }
  return told;
}

describe("a process that is killed", () => {
  it(`loses nothing that it had acknowledged, ${String(KILLS)} times`, async function () {
    this.timeout(KILLS * 2000);
    const lanes = Array.from({ length: LANES }, () => killOften(KILLS / LANES));
    const told = await Promise.all(lanes);
    const versions = told.flatMap((lane) => [...lane.versions.values()]).reduce((sum, { size }) => sum + size, 0);
    expect(versions).to.be.greaterThan(KILLS);
    expect(told.some(({ backups }) => backups.size > 0)).to.equal(true);
  });
});
