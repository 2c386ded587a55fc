/**
 * A first backup of large files by two workers, of whose file calls one fails, or all from one on. Writes are behind what
 * is sealed, and one file's chunks lie in the packs of both: the error is still heard and says which it was, nothing that
 * was acknowledged is lost, and the next backup is whole.
 */
import { readdir } from "node:fs/promises";
import { basename } from "node:path";
import { expect } from "chai";
import { type ErrorCode, HoldfastError } from "../../src/base/errors.js";
import { pathText } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { INLINE_BYTES_MAX } from "../../src/engine/workers/protocol.js";
import { codeOf, noise } from "../support/engine-keys.js";
import { contentOf, EngineRig, UNLIMITED, upsert, walkFolder } from "../support/engine-rig.js";
import { FaultIo, type IoCall } from "../support/fault-io.js";
import { digestOf, expectSound } from "../support/store-scenario.js";
import { fastTempParent, TempFolder } from "../support/temp-folder.js";

/** `HOLDFAST_TESTS_THOROUGH=1` fails every single call, once and from then on; else some of them. */
const THOROUGH = process.env["HOLDFAST_TESTS_THOROUGH"] === "1";
const TIMEOUT_MS = THOROUGH ? 7_200_000 : 60_000;
const SAMPLES = 5;

/** What a caller hears of each failure of the system. */
const CODES: Readonly<Record<string, ErrorCode>> = { ENOSPC: "STORE_FULL", EIO: "STORE_IO" };

/** The first is a batch of its own, whose chunks both workers seal; the others come while it is under way. */
const FILES: ReadonlyMap<string, Uint8Array> = new Map([
  ["large", noise(9_000_000, 1)],
  ["middle", noise(2_000_000, 2)],
  ...Array.from({ length: 40 }, (_, index) => [`small-${String(index)}`, noise(20_000, 3 + index)] as const),
]);
const DIGESTS = new Map([...FILES].map(([name, content]) => [name, digestOf(content)]));

interface Step {
  /** Number of the call, counted from the backup's first. */
  readonly at: number;
  readonly errno: string;
  /** True: it is the only one that fails. */
  readonly once: boolean;
}

class Rig {
  readonly folder: TempFolder;
  readonly engine: EngineRig;
  readonly io = new FaultIo();

  private constructor(folder: TempFolder, engine: EngineRig) {
    this.folder = folder;
    this.engine = engine;
  }

  static async in(folder: TempFolder): Promise<Rig> {
    for (const [name, content] of FILES) await folder.write(`data/${name}`, content);
    await folder.write("noted", "acknowledged before");
    return new Rig(folder, await EngineRig.create(folder));
  }

  /** Opened, with one file that is acknowledged. */
  async open(): Promise<Repository> {
    const repository = await this.engine.open({ io: this.io, workers: 2 });
    await upsert(repository, "notes", [this.folder.bytes("noted")]);
    return repository;
  }

  async backup(repository: Repository): Promise<string> {
    const root = this.folder.bytes("data");
    const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    const request = { type: "full", sources: [source], compression: "lz4" } as const;
    return (await repository.createBackup(request, UNLIMITED)).backup_id;
  }

  async expectKept(repository: Repository, backups: readonly string[]): Promise<void> {
    const noted = repository.current(this.folder.bytes("noted"));
    expect(String(await contentOf(repository, noted?.node))).to.equal("acknowledged before");
    for (const id of backups) {
      const found = new Map<string, string>();
      for await (const { path, node } of repository.backupEntries(id, {}, UNLIMITED)) {
        if (node.kind === "file") found.set(basename(pathText(path)), digestOf(await contentOf(repository, node)));
      }
      expect(new Map([...found].sort())).to.deep.equal(new Map([...DIGESTS].sort()));
    }
    await expectSound(repository);
  }
}

/** How many calls a backup makes in which nothing fails. */
async function callsOfBackup(): Promise<number> {
  await using folder = await TempFolder.create("calls", fastTempParent());
  const rig = await Rig.in(folder);
  await using repository = await rig.open();
  const before = rig.io.calls.length;
  await rig.backup(repository);
  return rig.io.calls.length - before;
}

/** Every call in both ways, or some calls from anywhere in the backup, more of the beginning, where the workers write. */
async function stepsToFail(): Promise<Step[]> {
  const calls = await callsOfBackup();
  const errnos = Object.keys(CODES);
  const errnoOf = (index: number): string => errnos[index % errnos.length] ?? "EIO";
  if (THOROUGH) {
    const all = Array.from({ length: calls }, (_, at) => at);
    return all.flatMap((at) => [true, false].map((once, index) => ({ at, errno: errnoOf(at + index), once })));
  }
  return Array.from({ length: SAMPLES }, (_, index) => {
    const at = Math.floor(((index + Math.random()) / SAMPLES) ** 2 * calls);
    return { at, errno: errnoOf(index), once: Math.random() < 0.5 };
  });
}

/** Fails a call of a first backup, then backs up again in the same session and looks at everything after the next start. */
async function failAndGoOn(rig: Rig, { at, errno, once }: Step): Promise<void> {
  const backups: string[] = [];
  {
    await using repository = await rig.open();
    const first = rig.io.calls.length + at;
    rig.io.partialShare = (at % 3) / 2;
    rig.io.plan = (_call, _path, index) => (index === first || (!once && index > first) ? errno : undefined);
    try {
      backups.push(await rig.backup(repository));
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      expect(error.code).to.equal(CODES[errno]);
    }
    rig.io.plan = () => undefined; // two workers do not make the same calls in each run
    backups.push(await rig.backup(repository));
  }
  await using again = await rig.open();
  expect(await readdir(rig.folder.at("store", "staging"))).to.deep.equal([]);
  await rig.expectKept(again, backups);
}

describe("when file calls of two workers fail", function () {
  this.timeout(TIMEOUT_MS);

  it("the reason is heard, nothing is lost, and the next backup is whole", async () => {
    for (const step of await stepsToFail()) {
      await using folder = await TempFolder.create("worker-faults", fastTempParent());
      try {
        await failAndGoOn(await Rig.in(folder), step);
      } catch (error) {
        throw new Error(`${JSON.stringify(step)}: ${String(error)}`, { cause: error });
      }
    }
  });

  /** The first such call on a pack fails. */
  function failOnPack(io: FaultIo, call: IoCall): void {
    let isFailed = false;
    io.plan = (each, path) => {
      if (isFailed || each !== call || !path.includes("pack-")) return undefined;
      isFailed = true;
      return "ENOSPC";
    };
  }

  it("what was packed is thrown away at once, so that a full disk is not kept full", async () => {
    for (const call of ["sync", "link"] as const) {
      await using folder = await TempFolder.create("worker-faults", fastTempParent());
      const rig = await Rig.in(folder);
      await using repository = await rig.open();
      failOnPack(rig.io, call);
      expect(await codeOf(rig.backup(repository))).to.equal("STORE_FULL");
      expect(await readdir(folder.at("store", "staging")), call).to.deep.equal([]);
    }
  });

  it("so is what was packed for a change that is too large for the log", async () => {
    await using folder = await TempFolder.create("worker-faults", fastTempParent());
    const rig = await Rig.in(folder);
    await using repository = await rig.open();
    await folder.write("huge", noise(INLINE_BYTES_MAX + 2_000_000));
    failOnPack(rig.io, "link");
    expect(await codeOf(upsert(repository, "notes", [folder.bytes("huge")]))).to.equal("STORE_FULL");
    expect(await readdir(folder.at("store", "staging"))).to.deep.equal([]);
  });
});
