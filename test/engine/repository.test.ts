/** The engine end to end on real files: commits, versions, backups, reopening, and a lost or stale index. */
import { expect } from "chai";
import { randomBytes } from "node:crypto";
import { appendFile, chmod, cp, mkdir, rename, rm, symlink, unlink, utimes } from "node:fs/promises";
import type { BytePath } from "../../src/base/paths.js";
import { HoldfastError } from "../../src/base/errors.js";
import type { Secret } from "../../src/base/observe.js";
import type { BackupSource, Repository } from "../../src/engine/repository.js";
import type { Entry, Manifest } from "../../src/engine/types.js";
import { EngineRig, UNLIMITED, contentOf, storeFiles, upsert, walkFolder } from "../support/engine-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const source = (name: string, root: BytePath): BackupSource => ({
  name,
  roots: [root],
  walk: walkFolder(root),
  encryptionRequired: false,
});

async function backUp(
  repository: Repository,
  root: BytePath,
  type: Manifest["backup_type"] = "incremental",
): Promise<Manifest> {
  return await repository.createBackup({ type, sources: [source("docs", root)] }, UNLIMITED);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof HoldfastError ? error.code : String(error);
  }
}

const pathsOf = (entries: readonly Entry[]): string[] => entries.map((entry) => entry.path);

describe("repository", () => {
  const folder = useTempFolder("engine");

  describe("on-change commits", () => {
    it("keep what a file was at each commit, newest first", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("a.txt");
      await folder().write("a.txt", "one");
      const first = await upsert(repository, "docs", [path]);
      await folder().write("a.txt", "two, longer");
      await upsert(repository, "docs", [path]);
      const versions = await repository.versions(path);
      expect(versions).to.have.length(2);
      expect((await contentOf(repository, versions[0]?.node)).toString()).to.equal("two, longer");
      expect((await contentOf(repository, versions[1]?.node)).toString()).to.equal("one");
      expect(first.stored.map((entry) => entry.path)).to.deep.equal([path]);
    });

    it("make no new version of a file that is the same", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("a.txt");
      await folder().write("a.txt", "same");
      await utimes(path, 1000, 1000);
      await upsert(repository, "docs", [path]);
      await folder().write("a.txt", "same");
      await utimes(path, 1000, 1000);
      const receipt = await upsert(repository, "docs", [path]);
      expect(receipt.unchanged).to.have.length(1);
      expect(receipt.stored).to.have.length(0);
      expect(await repository.versions(path)).to.have.length(1);
    });

    it("make a new version when only the mode changed", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("a.txt");
      await folder().write("a.txt", "same", 0o644);
      await upsert(repository, "docs", [path]);
      await chmod(path, 0o600);
      await upsert(repository, "docs", [path]);
      expect((await repository.versions(path)).map((version) => version.node?.mode)).to.deep.equal([0o600, 0o644]);
    });

    it("report a vanished file and remove nothing by themselves", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("a.txt");
      await folder().write("a.txt", "here");
      await upsert(repository, "docs", [path]);
      await unlink(path);
      const receipt = await upsert(repository, "docs", [path]);
      expect(receipt.vanished).to.deep.equal([path]);
      expect(repository.current(path)).to.not.equal(undefined);
    });

    it("record an accepted removal as a version without a node", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("a.txt");
      await folder().write("a.txt", "here");
      const stored = await upsert(repository, "docs", [path]);
      const removal = await repository.commitChanges("docs", [{ path, kind: "remove" }], UNLIMITED);
      expect(removal.removed).to.deep.equal([path]);
      expect(repository.current(path)).to.equal(undefined);
      const versions = await repository.versions(path);
      expect(versions.map((version) => version.node === undefined)).to.deep.equal([true, false]);
      expect((await repository.entryAt(path, stored.timeMs))?.node).to.not.equal(undefined);
    });

    it("acknowledge the removal of what they do not hold, for it may have been removed before a kill", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const path = folder().bytes("never-stored.txt");
      const removal = await repository.commitChanges("docs", [{ path, kind: "remove" }], UNLIMITED);
      expect(removal.removed).to.deep.equal([path]);
      expect(await repository.versions(path)).to.deep.equal([]);
    });

    it("find the other paths that have the same content", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      await folder().write("a.txt", "twin");
      await folder().write("b.txt", "twin");
      const { stored } = await upsert(repository, "docs", [folder().bytes("a.txt"), folder().bytes("b.txt")]);
      const found = await repository.pathsWithDigest(stored[0]?.node.sha256 ?? "");
      expect(found.map(({ path }) => path)).to.have.members([folder().bytes("a.txt"), folder().bytes("b.txt")]);
    });

    it("keep names that are no UTF-8, links, and empty files and folders", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const odd = `${folder().path}/odd-\xff\xfe` as BytePath;
      await folder().write("empty", "");
      await rename(folder().at("empty"), Buffer.from(odd, "latin1"));
      await symlink("nowhere", folder().at("link"));
      await mkdir(folder().at("folder"));
      const paths = [odd, folder().bytes("link"), folder().bytes("folder")];
      const { stored } = await upsert(repository, "docs", paths);
      expect(stored.map(({ node }) => node.kind)).to.have.members(["file", "symlink", "folder"]);
      expect(repository.current(odd)?.node.stat.sizeBytes).to.equal(0);
      expect(repository.current(folder().bytes("link"))?.node.linkTarget).to.equal("nowhere");
    });

    it("run side by side on different and on the same paths", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const paths: BytePath[] = [];
      for (let index = 0; index < 40; index += 1) {
        await folder().write(`f${String(index)}`, `content ${String(index % 7)}`);
        paths.push(folder().bytes(`f${String(index)}`));
      }
      const rounds = Array.from({ length: 8 }, (_, turn) =>
        upsert(repository, "docs", paths.slice(turn * 3, turn * 3 + 20)),
      );
      await Promise.all(rounds);
      await upsert(repository, "docs", paths);
      for (const [index, path] of paths.entries()) {
        expect((await contentOf(repository, repository.current(path)?.node)).toString()).to.equal(
          `content ${String(index % 7)}`,
        );
        expect(await repository.versions(path)).to.have.length(1);
      }
    });

    it("store a file larger than the log takes in packs, and read it back whole", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const bytes = randomBytes(40 * 2 ** 20);
      await folder().write("large", bytes);
      await upsert(repository, "docs", [folder().bytes("large")]);
      const content = await contentOf(repository, repository.current(folder().bytes("large"))?.node);
      expect(content.equals(bytes)).to.equal(true);
    });
  });

  describe("after reopening", () => {
    async function madeTwoVersions(rig: EngineRig): Promise<BytePath> {
      await using repository = await rig.open();
      const path = folder().bytes("data/a.txt");
      await folder().write("data/a.txt", "one");
      await upsert(repository, "docs", [path]);
      await backUp(repository, folder().bytes("data"), "full");
      await folder().write("data/a.txt", "two!");
      await upsert(repository, "docs", [path]);
      return path;
    }

    async function expectBoth(repository: Repository, path: BytePath): Promise<void> {
      const versions = await repository.versions(path);
      const contents = await Promise.all(
        versions.map(async ({ node }) => (await contentOf(repository, node)).toString()),
      );
      expect(contents).to.deep.equal(["two!", "one"]);
      expect(await repository.listBackups()).to.have.length(1);
      const [entry] = (await collect(repository.backupEntries("latest", { under: path }, UNLIMITED))).slice(-1);
      expect((await contentOf(repository, entry?.node)).toString()).to.equal("one");
    }

    for (const encrypt of [true, false]) {
      it(`gives everything back (${encrypt ? "encrypted" : "not encrypted"})`, async () => {
        const rig = await EngineRig.create(folder(), { encrypt });
        const path = await madeTwoVersions(rig);
        await using repository = await rig.open();
        await expectBoth(repository, path);
      });
    }

    it("gives everything back when the index was deleted", async () => {
      const rig = await EngineRig.create(folder());
      const path = await madeTwoVersions(rig);
      await rm(folder().at("state", "index"), { recursive: true });
      await using repository = await rig.open();
      await expectBoth(repository, path);
    });

    it("gives everything back when the whole state folder was deleted", async () => {
      const rig = await EngineRig.create(folder());
      const path = await madeTwoVersions(rig);
      await rm(folder().at("state"), { recursive: true });
      await using repository = await rig.open();
      await expectBoth(repository, path);
    });

    it("gives everything back when index and index fragments were deleted", async () => {
      const rig = await EngineRig.create(folder());
      const path = await madeTwoVersions(rig);
      await rm(folder().at("state", "index"), { recursive: true });
      await rm(folder().at("store", "index"), { recursive: true });
      await using repository = await rig.open();
      await expectBoth(repository, path);
    });

    it("catches up when the index was replaced by an older copy", async () => {
      const rig = await EngineRig.create(folder());
      await folder().write("data/a.txt", "zero");
      const opened = await rig.open();
      await opened[Symbol.asyncDispose]();
      await cp(folder().at("state", "index"), folder().at("old-index"), { recursive: true });
      const path = await madeTwoVersions(rig);
      await rm(folder().at("state", "index"), { recursive: true });
      await cp(folder().at("old-index"), folder().at("state", "index"), { recursive: true });
      await using repository = await rig.open();
      await expectBoth(repository, path);
    });

    it("opens with a broken index", async () => {
      const rig = await EngineRig.create(folder());
      const path = await madeTwoVersions(rig);
      for (const file of await storeFiles(folder().at("state"), "index")) {
        if (/MANIFEST|CURRENT/.test(file)) await folder().write(file.slice(folder().path.length + 1), "garbage");
      }
      await using repository = await rig.open();
      await expectBoth(repository, path);
    });

    it("is refused to a second process and to a wrong or missing key", async () => {
      const rig = await EngineRig.create(folder());
      await using _repository = await rig.open();
      expect(await codeOf(rig.open({ stateDir: folder().at("other") }))).to.equal("REPO_LOCKED");
      expect(await codeOf(rig.open({ readOnly: true }))).to.equal("INDEX_LOCKED");
      const wrong = { keyBytes: randomBytes(32) };
      expect(await codeOf(rig.open({ stateDir: folder().at("other"), unlock: wrong }))).to.equal("REPO_KEY_WRONG");
      const nothing = { stateDir: folder().at("other"), unlock: {} };
      expect(await codeOf(rig.open(nothing))).to.equal("REPO_KEY_MISSING");
    });

    it("opens with the recovery key", async () => {
      const rig = await EngineRig.create(folder());
      let recoveryKey: Secret;
      {
        await using repository = await rig.open();
        recoveryKey = await repository.newRecoveryKey(UNLIMITED);
      }
      await using again = await rig.open({ unlock: { recoveryKey } });
      expect(again.encrypted).to.equal(true);
    });

    it("can be read by a second state folder while nobody writes, and not be written so", async () => {
      const rig = await EngineRig.create(folder());
      const path = await madeTwoVersions(rig);
      await using repository = await rig.open({ readOnly: true, stateDir: folder().at("reader") });
      await expectBoth(repository, path);
      expect(await codeOf(upsert(repository, "docs", [path]))).to.equal("STORE_READ_ONLY");
    });
  });

  describe("backups", () => {
    it("hold the tree as it was, each on its own, and count what changed", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      for (const name of ["a", "b", "c/d"]) await folder().write(`data/${name}`, `first ${name}`);
      const root = folder().bytes("data");
      const full = await backUp(repository, root, "full");
      await folder().write("data/b", "second b");
      await folder().write("data/e", "new e");
      await unlink(folder().at("data/a"));
      const second = await backUp(repository, root);
      expect(full.sources[0]).to.include({ files_total: 3, files_changed: 3, files_unreadable: 0 });
      expect(second.sources[0]).to.include({ files_total: 3, files_changed: 2 });
      expect(second.parent).to.equal(full.backup_id);
      const entries = await collect(repository.backupEntries(second.backup_id, {}, UNLIMITED));
      const names = (name: string): string => (name === "" ? root : `${root}/${name}`);
      expect(pathsOf(entries)).to.deep.equal(["", "b", "c", "c/d", "e"].map(names));
      const before = await collect(repository.backupEntries(full.backup_id, {}, UNLIMITED));
      expect(pathsOf(before)).to.deep.equal(["", "a", "b", "c", "c/d"].map(names));
      const differences = await collect(repository.diffBackups(full.backup_id, second.backup_id, UNLIMITED));
      const changes = differences
        .filter(({ path }) => path !== root)
        .map(({ path, change }) => [path.slice(root.length + 1), change]);
      expect(changes).to.deep.equal([
        ["a", "removed"],
        ["b", "content"],
        ["e", "added"],
      ]);
    });

    it("leave out a removed file, keep its versions, and take it in again when it returns", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      await folder().write("data/a", "a");
      await folder().write("data/b", "b");
      const [root, path] = [folder().bytes("data"), folder().bytes("data/a")];
      await backUp(repository, root);
      await rename(folder().at("data/a"), folder().at("aside"));
      await backUp(repository, root);
      expect(pathsOf(await collect(repository.backupEntries("latest", {}, UNLIMITED)))).to.not.include(path);
      expect((await contentOf(repository, repository.current(path)?.node)).toString()).to.equal("a");
      await rename(folder().at("aside"), folder().at("data/a"));
      await backUp(repository, root);
      expect(pathsOf(await collect(repository.backupEntries("latest", {}, UNLIMITED)))).to.include(path);
      const states = (await repository.versions(path)).map(({ node }) => (node === undefined ? "removed" : "stored"));
      expect(states).to.deep.equal(["stored", "removed", "stored"]);
    });

    it("read nothing again when nothing changed, and everything when they are full", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      for (let index = 0; index < 30; index += 1)
        await folder().write(`data/f${String(index)}`, `content ${String(index)}`);
      const root = folder().bytes("data");
      const read = async (type: Manifest["backup_type"]): Promise<number> => {
        let files = 0;
        await repository.createBackup({ type, sources: [source("docs", root)] }, UNLIMITED, (progress) => {
          files = progress.filesRead;
        });
        return files;
      };
      expect(await read("incremental")).to.equal(31);
      expect(await read("incremental")).to.equal(0);
      expect(await read("differential")).to.equal(0);
      expect(await read("full")).to.equal(31);
    });

    it("keep the last good version of what cannot be read, and say so", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      await folder().write("data/sub/a", "a");
      const [root, sub] = [folder().bytes("data"), folder().bytes("data/sub")];
      await backUp(repository, root);
      const walk = async function* (): AsyncGenerator<{ path: BytePath; errno: string }[]> {
        yield await Promise.resolve([{ path: sub, errno: "EACCES" }]);
      };
      const request = { type: "incremental", sources: [{ ...source("docs", root), walk: walk() }] } as const;
      const manifest = await repository.createBackup(request, UNLIMITED);
      expect(manifest.sources[0]?.files_unreadable).to.equal(1);
      expect(pathsOf(await collect(repository.backupEntries("latest", {}, UNLIMITED)))).to.deep.equal([
        sub,
        `${sub}/a`,
      ]);
    });

    it("count what cannot be looked at once, though each stretch of a walk that lies behind it tells it", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const [root, sub, other] = [folder().bytes("data"), folder().bytes("data/sub"), folder().bytes("data/zoo")];
      await folder().write("data/sub/a", "a");
      await backUp(repository, root);
      const walk = async function* (): AsyncGenerator<{ path: BytePath; errno: string }[]> {
        yield await Promise.resolve([{ path: sub, errno: "EACCES" }]);
        for (const path of [sub, sub, other]) yield [{ path, errno: "EACCES" }];
      };
      const request = { type: "incremental", sources: [{ ...source("docs", root), walk: walk() }] } as const;
      const manifest = await repository.createBackup(request, UNLIMITED);
      expect(manifest.sources[0]?.files_unreadable).to.equal(2);
      expect(pathsOf(await collect(repository.backupEntries("latest", {}, UNLIMITED)))).to.include(`${sub}/a`);
    });

    it("stay whole while commits go on", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      const paths: BytePath[] = [];
      for (let index = 0; index < 200; index += 1) {
        await folder().write(`data/f${String(index)}`, `v0 ${String(index)}`);
        paths.push(folder().bytes(`data/f${String(index)}`));
      }
      const backup = backUp(repository, folder().bytes("data"));
      for (let turn = 0; turn < 5; turn += 1) {
        for (let index = turn; index < 200; index += 20)
          await folder().write(`data/f${String(index)}`, `v${String(turn + 1)} ${String(index)}`);
        await upsert(
          repository,
          "docs",
          paths.filter((_, index) => index % 20 === turn),
        );
      }
      await backup;
      const entries = await collect(repository.backupEntries("latest", {}, UNLIMITED));
      expect(entries.filter(({ node }) => node.kind === "file")).to.have.length(200);
      for (const { node, path } of entries.filter((entry) => entry.node.kind === "file")) {
        const known = (await repository.versions(path)).map((version) => version.node?.sha256);
        expect(known).to.include(node.sha256);
        await contentOf(repository, node);
      }
    });

    it("are found by id, prefix and latest; pinned ones cannot be removed", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      await folder().write("data/a", "a");
      const first = await backUp(repository, folder().bytes("data"), "full");
      const second = await backUp(repository, folder().bytes("data"), "full");
      expect((await repository.backup("latest")).backup_id).to.equal(second.backup_id);
      const both = await rejection(repository.backup("backup_"));
      expect(both).to.include({ code: "BACKUP_AMBIGUOUS" });
      expect(both).to.have.property("message").that.includes(first.backup_id).and.includes(second.backup_id);
      expect(await codeOf(repository.backup("nothing"))).to.equal("BACKUP_NOT_FOUND");
      await repository.annotateBackup(first.backup_id, { pinned: true }, UNLIMITED);
      expect(await codeOf(repository.deleteBackups([first.backup_id], UNLIMITED))).to.equal("BACKUP_PINNED");
      await repository.deleteBackups([second.backup_id], UNLIMITED);
      expect((await repository.listBackups()).map((manifest) => manifest.backup_id)).to.deep.equal([first.backup_id]);
    });

    it("refuse a source that demands encryption in a repository without", async () => {
      const rig = await EngineRig.create(folder(), { encrypt: false });
      await using repository = await rig.open();
      await folder().write("data/a", "a");
      const sources = [{ ...source("docs", folder().bytes("data")), encryptionRequired: true }];
      expect(await codeOf(repository.createBackup({ type: "full", sources }, UNLIMITED))).to.equal(
        "ENCRYPTION_REQUIRED",
      );
    });

    it("make nothing when aborted, and the next one is whole", async () => {
      const rig = await EngineRig.create(folder());
      await using repository = await rig.open();
      for (let index = 0; index < 50; index += 1) await folder().write(`data/f${String(index)}`, "content");
      const stop = new AbortController();
      const walk = async function* (): ReturnType<typeof walkFolder> {
        for await (const batch of walkFolder(folder().bytes("data"))) {
          yield batch;
          stop.abort(new HoldfastError("INTERRUPTED", "enough"));
        }
      };
      const sources = [{ ...source("docs", folder().bytes("data")), walk: walk() }];
      expect(await codeOf(repository.createBackup({ type: "full", sources }, stop.signal))).to.equal("INTERRUPTED");
      expect(await repository.listBackups()).to.have.length(0);
      const manifest = await backUp(repository, folder().bytes("data"));
      expect(manifest.sources[0]?.files_total).to.equal(50);
    });
  });

  it("stores again a chunk whose copy is damaged, when the file is committed again", async () => {
    const rig = await EngineRig.create(folder());
    const path = folder().bytes("a");
    await folder().write("a", "precious");
    {
      await using repository = await rig.open();
      await upsert(repository, "docs", [path]);
    }
    for (const pack of await storeFiles(rig.storeUrl, "packs/d")) await damage(pack);
    await using repository = await rig.open();
    expect(await codeOf(contentOf(repository, repository.current(path)?.node))).to.equal("RECORD_DAMAGED");
    expect((await repository.stats()).suspectChunks).to.equal(1);
    await upsert(repository, "docs", [path]);
    expect((await contentOf(repository, repository.current(path)?.node)).toString()).to.equal("precious");
    expect((await repository.stats()).suspectChunks).to.equal(0);
  });
});

/** Flips bytes in the first record of a pack. */
async function damage(file: string): Promise<void> {
  const { open } = await import("node:fs/promises");
  await appendFile(file, "");
  await chmod(file, 0o600);
  const handle = await open(file, "r+");
  await handle.write(Buffer.from("damage"), 0, 6, 48 + 82);
  await handle.close();
}
