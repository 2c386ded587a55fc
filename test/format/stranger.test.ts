/**
 * docs/repository-format.md is enough to read a repository: a reader that was written from the page alone, and that uses
 * nothing of holdfast's code (`test/support/stranger/`), gives the same entries, versions, backups and bytes as holdfast,
 * of every golden repository and of one that holds all kinds of objects.
 */
import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { cp } from "node:fs/promises";
import { expect } from "chai";
import { Secret, silentObserver } from "../../src/base/observe.js";
import { gc } from "../../src/engine/gc.js";
import { Repository } from "../../src/engine/repository.js";
import { noise } from "../support/engine-keys.js";
import { UNLIMITED, upsert, walkFolder } from "../support/engine-rig.js";
import { FakeClock } from "../support/fake-clock.js";
import { type GoldenFacts, goldenFolder } from "../support/golden.js";
import { requirePrograms } from "../support/requirements.js";
import { pictureOf, StoreScenario } from "../support/store-scenario.js";
import type { StrangerNode, StrangerState } from "../support/stranger/commits.js";
import { StrangerReader } from "../support/stranger/reader.js";
import { keysOf, type StrangerKey } from "../support/stranger/records.js";
import { chunkLengths, GENERAL, nodeCounts, treeLevels } from "../support/stranger/writing.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

/** What `pictureOf` tells, by path. */
interface Picture {
  readonly current: ReadonlyMap<string, unknown>;
  readonly backups: ReadonlyMap<string, { readonly manifest: unknown; readonly entries: readonly unknown[] }>;
}

function pictureTold(text: string): Picture {
  const current = new Map<string, unknown>();
  const backups = new Map<string, { manifest: unknown; entries: unknown[] }>();
  let entries: unknown[] = [];
  for (const line of JSON.parse(text) as unknown[]) {
    if (!Array.isArray(line)) {
      entries = [];
      backups.set((line as { backup_id: string }).backup_id, { manifest: line, entries });
    } else if (line.length === 4) current.set(`${String(line[0])} ${String(line[1])}`, line.slice(2));
    else entries.push(line);
  }
  return { current, backups };
}

/** As JSON has it. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, each: unknown) => (typeof each === "bigint" ? String(each) : each)),
  ) as unknown;
}

function textOf(path: string): string {
  return Buffer.from(path, "latin1").toString("utf8");
}

function pictureRead(reader: StrangerReader): Picture {
  const current = new Map<string, unknown>();
  for (const [source, paths] of reader.versions()) {
    for (const [path, versions] of paths) {
      const state = versions[0]?.state;
      if (state === undefined) continue;
      const told = versions.flatMap((version) => {
        const line = [version.timeMs, version.state?.node.sha256];
        const { absentSinceMs } = version.state ?? {};
        return absentSinceMs === undefined ? [line] : [[absentSinceMs, undefined], line]; // gone from then on
      });
      current.set(`${source} ${textOf(path)}`, plain([state.node, told]));
    }
  }
  const backups = [...reader.backups()].map(([id, { manifest, entries }]) => {
    const told = entries.map(({ path, state }) => [textOf(path), state.node]);
    return [id, { manifest: plain(manifest), entries: plain(told) as unknown[] }] as const;
  });
  return { current, backups: new Map(backups) };
}

function expectAlike(read: Picture, told: Picture): void {
  expect([...read.current.keys()]).to.deep.equal([...told.current.keys()]);
  for (const [path, line] of told.current) expect(read.current.get(path), path).to.deep.equal(line);
  expect([...read.backups.keys()]).to.have.members([...told.backups.keys()]);
  for (const [id, backup] of told.backups) expect(read.backups.get(id), id).to.deep.equal(backup);
}

/** Reads every byte of every version and backup; gives the number of files. */
function readAll(reader: StrangerReader): number {
  const nodes: StrangerNode[] = [];
  for (const paths of reader.versions().values())
    for (const versions of paths.values())
      for (const { state } of versions) if (state?.node.kind === "file") nodes.push(state.node);
  for (const { entries } of reader.backups().values())
    for (const { state } of entries) if (state.node.kind === "file") nodes.push(state.node);
  for (const node of nodes) reader.content(node);
  return nodes.length;
}

/** What the fragments list is what the packs hold, and parity gives back each pack of a group. */
function expectPacks(reader: StrangerReader): number {
  const packs = [...reader.objects.keys()].filter((key) => key.startsWith("packs/"));
  const listed = reader.listedPacks();
  expect([...listed.keys()]).to.have.members(packs);
  let covered = 0;
  for (const key of packs) {
    expect(listed.get(key)?.size).to.equal(reader.objects.get(key)?.length);
    const made = reader.fromParity(key);
    if (made === undefined) continue;
    covered += 1;
    expect(made.equals(reader.objects.get(key) ?? Buffer.alloc(0))).to.equal(true);
  }
  return covered;
}

describe("by docs/repository-format.md alone", () => {
  for (const name of readdirSync(goldenFolder())) {
    it(`a stranger reads the golden repository ${name} as holdfast did`, () => {
      const facts = JSON.parse(readFileSync(`${goldenFolder(name)}/facts.json`, "utf8")) as GoldenFacts;
      const { keyHex, recoveryKey } = facts;
      const keys: (StrangerKey | undefined)[] = keyHex === undefined ? [undefined] : [{ keyFile: Buffer.from(keyHex, "hex") }];
      if (recoveryKey !== undefined) keys.push({ recoveryKey: recoveryKey.toLowerCase().replaceAll("-", " ") });
      for (const key of keys) {
        const reader = StrangerReader.open(goldenFolder(name, "store"), key);
        expectAlike(pictureRead(reader), pictureTold(facts.picture));
        expect(readAll(reader)).to.be.greaterThan(60);
        expect(expectPacks(reader) > 0).to.equal(existsSync(goldenFolder(name, "store", "parity")));
      }
    });
  }

  describe("of a repository with everything in it", function () {
    this.timeout(30_000);
    const folder = useTempFolder("stranger");
    let picture: Picture;
    const keyBytes = Buffer.alloc(32, 7);
    const special = (name: string): string => folder().at("special", name);

    before(function () {
      requirePrograms(this, "mkfifo", "setfattr");
    });

    /** Filled, then copied in the middle of its work, so that the last commits are in the log. */
    const makeStore = async (): Promise<string> => {
      await folder().folder("special");
      makeSpecialFiles(special);
      const common = { storeUrl: folder().at("store"), clock: new FakeClock(), observer: silentObserver };
      const password = new Secret("pa\u0308ssword");
      await Repository.init({ ...common, encrypt: true, password, passwordKdf: "pbkdf2-sha256" });
      const open = { ...common, stateDir: folder().at("state"), unlock: { password }, workers: 1, signal: UNLIMITED };
      await using repository = await Repository.open(open);
      await repository.addKey({ unlock: { password: new Secret("another") } }, UNLIMITED);
      await repository.addKey({ unlock: { keyBytes } }, UNLIMITED);
      await new StoreScenario(repository, folder().below("data"), common.clock, () => undefined).run();
      await fill(repository, folder().below("special"));
      picture = pictureTold(await pictureOf(repository));
      await cp(common.storeUrl, folder().at("copy"), { recursive: true });
      return folder().at("copy");
    };

    it("a stranger reads it as holdfast does, with every kind of key, object, record, entry and cut", async () => {
      const store = await makeStore();
      const reader = StrangerReader.open(store, { keyFile: keyBytes });
      const { repositoryId } = reader.keys;
      const slots = [...reader.objects].filter(([key]) => key.startsWith("keys/")).map(([, bytes]) => bytes);
      for (const password of ["p\u00e4ssword", "another"])
        expect(keysOf(repositoryId, slots, { password })).to.deep.equal(reader.keys);
      expectAlike(pictureRead(reader), picture);
      expect(readAll(reader)).to.be.greaterThan(700);
      expect(expectPacks(reader)).to.be.greaterThan(1);
      const kinds = new Set(reader.commits.map(({ header }) => header.body.kind));
      expect([...kinds]).to.have.members(["deltas", "backup", "base", "annotation", "removal"]);
      expect(reader.segments.some(({ deltas, records }) => deltas.length > 0 && records.length > 0)).to.equal(true);
      expectSpecial(reader, special);
      expectCuts(reader, special);
      expectNodes(reader);
    });
  });
});

/** The beginning of an SQLite database, longer than what is one chunk. */
const PAGES_BYTES = 100_000;

function makeSpecialFiles(at: (name: string) => string): void {
  writeFileSync(Buffer.from(at("\xff".repeat(255)), "latin1"), "a name of 255 bytes that are no text");
  writeFileSync(at("gone"), "no longer found by the second backup");
  writeFileSync(at("large"), noise(3_000_000, 3));
  writeFileSync(at("pages"), Buffer.concat([Buffer.from("SQLite format 3\0"), noise(PAGES_BYTES, 4)]));
  writeFileSync(at("holes"), "");
  truncateSync(at("holes"), 50_000);
  utimesSync(at("holes"), 0, Date.UTC(2400, 0, 1) / 1000);
  writeFileSync(at("marked"), "with attributes");
  execFileSync("setfattr", ["-n", "user.colour", "-v", "blue", at("marked")]);
  execFileSync("mkfifo", [at("fifo")]);
  symlinkSync("large", at("link"));
  if (process.getuid?.() === 0) execFileSync("mknod", [at("null"), "c", "1", "3"]);
  mkdirSync(at("many"));
  for (let index = 0; index < 700; index += 1)
    writeFileSync(at(`many/${String(index).padStart(60, "x")}`), `small ${String(index)}`);
}

/** Backs the special files up twice, with one gone in between; one backup is pinned, and all packs get parity. */
async function fill(repository: Repository, special: TempFolder): Promise<void> {
  const root = special.bytes();
  const backUp = async (): Promise<string> => {
    const source = { name: "special", roots: [root], walk: walkFolder(root), encryptionRequired: false };
    return (await repository.createBackup({ type: "full", sources: [source] }, UNLIMITED)).backup_id;
  };
  await backUp();
  rmSync(special.at("gone"));
  const validation = { integrity_check: "passed" } as const;
  await repository.annotateBackup(await backUp(), { pinned: true, validation }, UNLIMITED);
  await gc(repository, { dryRun: false, parity: { dataPacks: 3, parityPacks: 2 } }, UNLIMITED);
  writeFileSync(special.at("last"), "in the log");
  await upsert(repository, "special", [special.bytes("last")]);
}

function currentAt(reader: StrangerReader, path: string): StrangerState | undefined {
  return reader.versions().get("special")?.get(Buffer.from(path).toString("latin1"))?.[0]?.state;
}

function expectSpecial(reader: StrangerReader, at: (name: string) => string): void {
  expect(currentAt(reader, at("gone"))?.absentSinceMs).to.be.greaterThan(0);
  expect(currentAt(reader, at("marked"))?.node.xattrs?.get("user.colour")?.toString()).to.equal("blue");
  const holes = currentAt(reader, at("holes"))?.node;
  expect(holes?.sparse).to.equal(true);
  expect(holes?.stat.mtimeNs).to.equal(lstatSync(at("holes"), { bigint: true }).mtimeNs);
  expect(currentAt(reader, at("link"))?.node.linkTarget).to.equal("large");
  expect(currentAt(reader, at("fifo"))?.node.kind).to.equal("fifo");
  if (process.getuid?.() === 0) expect(currentAt(reader, at("null"))?.node.device).to.deep.equal({ major: 1, minor: 3 });
  const names = [...(reader.versions().get("special")?.keys() ?? [])];
  expect(names.some((path) => path.endsWith(`/${"\xff".repeat(255)}`))).to.equal(true);
}

/** Content is cut where the page says. */
function expectCuts(reader: StrangerReader, at: (name: string) => string): void {
  const lengths = (name: string): readonly number[] =>
    currentAt(reader, at(name))?.node.chunks?.map(({ lengthBytes }) => lengthBytes) ?? [];
  expect(lengths("large")).to.deep.equal(chunkLengths(reader.keys.chunkerKey, readFileSync(at("large")), GENERAL));
  expect(lengths("large").length).to.be.greaterThan(3);
  expect(lengths("pages").slice(0, -1)).to.deep.equal(Array.from({ length: 12 }, () => 8192));
}

/** Tree nodes end where the page says. */
function expectNodes(reader: StrangerReader): void {
  let inner = 0;
  for (const { header } of reader.commits) {
    for (const { root, name } of header.body.kind === "backup" ? (header.body.sources ?? []) : []) {
      if (name !== "special") continue;
      for (const [level, nodes] of treeLevels((id) => reader.node(id), root)) {
        inner += level;
        expect(nodes.map((items) => items.length)).to.deep.equal(nodeCounts(nodes.flat(), level));
      }
    }
  }
  expect(inner).to.be.greaterThan(0);
}
