/**
 * What was acknowledged survives: a process killed at random moments, every single file call of the store failing for
 * ever (as a power cut does) or once (as a full disk does), with the index kept, old, or gone.
 */
import { expect } from "chai";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { HoldfastError } from "../../src/base/errors.js";
import { check } from "../../src/engine/check.js";
import { gc } from "../../src/engine/gc.js";
import type { Repository } from "../../src/engine/repository.js";
import { EngineRig, UNLIMITED, contentOf, upsert, walkFolder } from "../support/engine-rig.js";
import { FaultIo } from "../support/fault-io.js";
import type { TempFolder } from "../support/temp-folder.js";
import { useTempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` fails every single call; else every seventh or so, to keep the run short. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const TIMEOUT_MS = 600_000;
const CHILD = fileURLToPath(new URL("../support/engine-child.js", import.meta.url));

/** What a process said was durable. */
interface Acknowledged {
  /** Digests by file name. */
  readonly versions: Map<string, Set<string>>;
  readonly backups: Set<string>;
}

/** Every acknowledged version and backup is there and restores to the bytes it was made of. */
async function expectAll(repository: Repository, folder: TempFolder, told: Acknowledged): Promise<void> {
  for (const [name, digests] of told.versions) {
    const found = new Set<string>();
    for (const { node } of await repository.versions(folder.bytes("data", name))) {
      if (node?.sha256 === undefined) continue;
      const bytes = await contentOf(repository, node);
      expect(createHash("sha256").update(bytes).digest("hex")).to.equal(node.sha256);
      found.add(node.sha256);
    }
    for (const digest of digests) expect(found.has(digest), `${name} ${digest}`).to.equal(true);
  }
  const known = new Set((await repository.listBackups()).map((manifest) => manifest.backup_id));
  for (const id of told.backups) {
    expect(known.has(id), id).to.equal(true);
    for await (const entry of repository.backupEntries(id, {}, UNLIMITED)) {
      if (entry.node.kind === "file") await contentOf(repository, entry.node);
    }
  }
  const report = await check(repository, { level: "structure" }, UNLIMITED);
  expect(report.problems).to.deep.equal([]);
}

async function lost(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

describe("after a crash", function () {
  this.timeout(TIMEOUT_MS);
  const folder = useTempFolder("crash");

  it("every acknowledged version and backup is there, killed at random moments of commits, seals, backups and collections", async () => {
    const rig = await EngineRig.create(folder());
    await mkdir(folder().at("data"));
    const key = rig.unlock?.keyBytes?.toString("hex") ?? "";
    const told: Acknowledged = { versions: new Map(), backups: new Set() };
    for (let kill = 0; kill < (THOROUGH ? 60 : 8); kill += 1) {
      const child = spawn(process.execPath, [CHILD, folder().path, key, String(kill)], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const wanted = 1 + Math.floor(Math.random() * 40);
      let lines = 0;
      for await (const line of createInterface({ input: child.stdout })) {
        const [what, name = "", digest = ""] = line.split(" ");
        if (what === "backup") told.backups.add(name);
        if (what === "version") told.versions.set(name, (told.versions.get(name) ?? new Set()).add(digest));
        lines += 1;
        // Between two lines, not at them: the rest of what it printed still counts.
        if (lines === wanted) setTimeout(() => void lost(child), Math.random() * 20);
      }
      if (kill % 4 === 3) await rm(folder().at("state", "index"), { recursive: true });
      if (kill % 7 === 6) await rm(folder().at("state"), { recursive: true });
    }
    expect(told.versions.size).to.equal(6);
    await using repository = await rig.open();
    await expectAll(repository, folder(), told);
  });
});

/** The work whose every step is made to fail. Says what was acknowledged; stops at the first failure. */
async function scenario(folder: TempFolder, repository: Repository, told: Acknowledged): Promise<void> {
  const commit = async (name: string, text: string): Promise<void> => {
    await writeFile(folder.at("data", name), text);
    const { stored } = await upsert(repository, "docs", [folder.bytes("data", name)]);
    const digest = stored[0]?.node.sha256;
    if (digest !== undefined) told.versions.set(name, (told.versions.get(name) ?? new Set()).add(digest));
  };
  await commit("a", "a one");
  await commit("b", "b one");
  await repository.seal(UNLIMITED);
  await commit("a", `a two ${"x".repeat(5000)}`);
  const root = folder.bytes("data");
  const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
  const { backup_id: id } = await repository.createBackup({ type: "full", sources: [source] }, UNLIMITED);
  told.backups.add(id);
  await commit("b", "b two");
  await gc(repository, { dryRun: false }, UNLIMITED);
  await commit("c", "c one");
}

async function freshRig(folder: TempFolder): Promise<{ rig: EngineRig; unlock: EngineRig["unlock"] }> {
  await rm(folder.at("store"), { recursive: true, force: true });
  await rm(folder.at("state"), { recursive: true, force: true });
  await rm(folder.at("data"), { recursive: true, force: true });
  await mkdir(folder.at("data"));
  const rig = await EngineRig.create(folder);
  return { rig, unlock: rig.unlock };
}

async function countSteps(folder: TempFolder): Promise<number> {
  const { rig } = await freshRig(folder);
  const io = new FaultIo();
  await using repository = await rig.open({ io });
  await scenario(folder, repository, { versions: new Map(), backups: new Set() });
  return io.calls.length;
}

function expectStoreError(error: unknown): void {
  const known = ["STORE_IO", "STORE_FULL", "STORE_READ_ONLY"];
  if (error instanceof HoldfastError && known.includes(error.code)) return;
  throw error;
}

describe("when file calls of the store fail", function () {
  this.timeout(TIMEOUT_MS);
  const folder = useTempFolder("faults");

  it("nothing is missing whichever file call was the last one that reached the store", async () => {
    const steps = await countSteps(folder());
    expect(steps).to.be.greaterThan(50);
    for (let step = 0; step < steps; step += THOROUGH ? 1 : 7) {
      const { rig } = await freshRig(folder());
      const io = new FaultIo();
      io.partialShare = (step % 3) / 2;
      const told: Acknowledged = { versions: new Map(), backups: new Set() };
      const repository = await rig.open({ io });
      await cp(folder().at("state", "index"), folder().at("old-index"), { recursive: true, force: true });
      io.plan = (_call, _path, index) => (index >= step ? "EIO" : undefined);
      await scenario(folder(), repository, told).catch(expectStoreError);
      await repository[Symbol.asyncDispose]().catch(expectStoreError);
      if (step % 3 === 1) await rm(folder().at("state", "index"), { recursive: true });
      if (step % 3 === 2) {
        await rm(folder().at("state", "index"), { recursive: true });
        await cp(folder().at("old-index"), folder().at("state", "index"), { recursive: true });
      }
      await using again = await rig.open();
      await expectAll(again, folder(), told);
    }
  });

  it("one failed call loses nothing, and the work succeeds when it is done again", async () => {
    const steps = await countSteps(folder());
    for (let step = 0; step < steps; step += THOROUGH ? 1 : 11) {
      const { rig } = await freshRig(folder());
      const io = new FaultIo();
      const told: Acknowledged = { versions: new Map(), backups: new Set() };
      {
        await using repository = await rig.open({ io });
        io.plan = (_call, _path, index) => (index === step ? "ENOSPC" : undefined);
        await scenario(folder(), repository, told).catch(expectStoreError);
        await scenario(folder(), repository, told);
        await expectAll(repository, folder(), told);
      }
      await using again = await rig.open();
      await expectAll(again, folder(), told);
    }
  });
});
