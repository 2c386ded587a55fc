/** Bytes that the system itself still has: the package of a file, and snapshots of its file system. */
import { execFileSync } from "node:child_process";
import { copyFile, mkdir, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { fsSnapshotsStrategy } from "../../src/recovery/strategies/fs-snapshots.js";
import { packageManagerStrategy } from "../../src/recovery/strategies/package-manager.js";
import { BtrfsDisk, hasBtrfs } from "../support/btrfs-disk.js";
import { DebianRoot } from "../support/debian-root.js";
import { NEVER, bytesOf, lostFile, nodeAt, sha256 } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const TOOL = {
  name: "hf-tool",
  version: "1:2.0-1",
  files: { "/usr/share/hf tool/a[1].txt": "packaged\n", "/etc/hf.conf": "a=1\n" },
};

describe("a file of a package", () => {
  const folder = useTempFolder("package");
  const notes: string[] = [];

  before(function () {
    requireRoot(this);
    requirePrograms(this, "dpkg", "dpkg-deb", "dpkg-query", "md5sum");
  });
  beforeEach(() => {
    notes.length = 0;
  });

  const search = async (lost: LostFile, parameters = {}): Promise<readonly Found[]> =>
    await found(
      packageManagerStrategy(),
      lost,
      { root: folder().at("system"), ...parameters },
      {
        scratchDir: await folder().folder("scratch"),
        notes,
      },
    );
  const system = (): DebianRoot => new DebianRoot(folder().at("system"), folder().at("build"));
  const at = (name: string): BytePath => pathFromText(`${folder().at("system")}${name}`);

  it("comes from the same version in apt's cache, by the checksum of the package database", async () => {
    system().install(TOOL);
    const path = at("/usr/share/hf tool/a[1].txt");
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(folder().at("system/usr/share/hf tool/a[1].txt"));
    const [one, ...others] = await search(lost);
    expect(others).to.deep.equal([]);
    expect(one?.text).to.equal("packaged\n");
    expect(one?.candidate).to.deep.include({ fidelity: "exact", sha256: sha256("packaged\n"), ownerUid: 0 });
    expect(one?.candidate.origin).to.equal("package hf-tool 1:2.0-1 (all)");
  });

  it("has its mode and owner from the package when nothing else is known of it", async () => {
    system().install(TOOL);
    await rm(folder().at("system/usr/share/hf tool/a[1].txt"));
    const [one] = await search(lostFile(at("/usr/share/hf tool/a[1].txt")));
    expect(one?.candidate.metadata).to.deep.include({ kind: "file", mode: 0o644, uid: 0, gid: 0 });
  });

  it("is offered as an older one when its owner had changed it", async () => {
    system().install({ ...TOOL, configurationFiles: ["/etc/hf.conf"] });
    await writeFile(folder().at("system/etc/hf.conf"), "a=2\n");
    const path = at("/etc/hf.conf");
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(folder().at("system/etc/hf.conf"));
    const [one] = await search(lost);
    expect(one?.text).to.equal("a=1\n");
    expect(one?.candidate.fidelity).to.equal("older");
    expect(one?.candidate.notes.join()).to.contain("had been changed").and.to.contain("configuration file");
  });

  it("is not taken from another version, nor from a package file with other bytes", async () => {
    const root = system();
    root.install(TOOL, false);
    await rm(folder().at("system/usr/share/hf tool/a[1].txt"));
    const lost = lostFile(at("/usr/share/hf tool/a[1].txt"));
    const other = root.build({ ...TOOL, version: "1:2.0-2" });
    root.cache(other);
    expect(await search(lost)).to.deep.equal([]);
    expect(notes.join()).to.contain("hf-tool 1:2.0-1, whose package file is not on this machine");
    await copyFile(other, folder().at("system/var/cache/apt/archives/hf-tool_1%3a2.0-1_all.deb"));
    expect(await rejection(search(lost))).to.have.property("code", "RECOVERY_FAILED");
    const forged = new DebianRoot(folder().at("other"), folder().at("build-other"));
    forged.build({ ...TOOL, files: { ...TOOL.files, "/usr/share/hf tool/a[1].txt": "forged\n" } });
    expect(await search(lost, { archives: [folder().at("build-other")] }).catch(() => [])).to.deep.equal([]);
    await rm(folder().at("system/var/cache/apt/archives/hf-tool_1%3a2.0-1_all.deb"));
    notes.length = 0;
    expect(await search(lost, { archives: [folder().at("build-other")] })).to.deep.equal([]);
    expect(notes.join()).to.contain("other bytes than the package database promises");
  });

  it("is left alone when another package diverted it, and when no package owns it", async () => {
    system().install(TOOL);
    const name = "/usr/share/hf tool/a[1].txt";
    execFileSync("dpkg-divert", [`--root=${folder().at("system")}`, "--rename", "--add", name], { stdio: "ignore" });
    expect(await search(lostFile(at(name)))).to.deep.equal([]);
    expect(notes.join()).to.match(/divert/);
    expect(await search(lostFile(at("/usr/share/none")))).to.deep.equal([]);
    expect(await search(lostFile(folder().bytes("outside")))).to.deep.equal([]);
  });
});

describe("a file in a snapshot of its file system", () => {
  const folder = useTempFolder("snapshot");

  const search = async (lost: LostFile, parameters = {}): Promise<readonly Found[]> =>
    await found(fsSnapshotsStrategy(), lost, parameters, { scratchDir: folder().path, notes: [] });

  it("comes from btrfs snapshots as snapper keeps them, newest first, each content once", async function () {
    requireRoot(this);
    requirePrograms(this, "mkfs.btrfs", "btrfs", "mount");
    if (!hasBtrfs()) skip(this, "this kernel has no btrfs");
    await using disk = BtrfsDisk.make(folder().at("btrfs.img"), folder().at("disk"));
    const home = disk.subvolume("home");
    await mkdir(`${home}/ann`);
    const file = `${home}/ann/notes.txt`;
    for (const [number, text] of [
      [9, "first\n"],
      [10, "second\n"],
      [11, "second\n"],
    ] as const) {
      if (number !== 11) {
        await writeFile(file, text);
        await utimes(file, 1_700_000_000 + number, 1_700_000_000 + number);
      }
      disk.snapshot(home, number);
    }
    const path = pathFromText(file);
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    const all = await search(lost);
    expect(all.map(({ text, candidate }) => [text, candidate.fidelity])).to.deep.equal([
      ["second\n", "exact"],
      ["first\n", "older"],
    ]);
    expect(all[0]?.candidate.origin).to.contain("btrfs snapshot (snapper)").and.to.contain("/.snapshots/11/snapshot");
  });

  it("comes from a snapshot that snapper itself has made", async function () {
    requireRoot(this);
    requirePrograms(this, "mkfs.btrfs", "btrfs", "mount", "snapper");
    if (!hasBtrfs()) skip(this, "this kernel has no btrfs");
    await using disk = BtrfsDisk.make(folder().at("btrfs.img"), folder().at("disk"));
    const home = disk.subvolume("home");
    disk.subvolume("home/.snapshots");
    await folder().write("disk/etc/snapper/configs/home", 'SUBVOLUME="/home"\nFSTYPE="btrfs"\n');
    await folder().write("disk/etc/default/snapper", 'SNAPPER_CONFIGS="home"\n');
    const file = `${home}/notes.txt`;
    await writeFile(file, "kept\n");
    const command = ["--no-dbus", "-r", disk.place, "-c", "home", "create", "-d", "before"];
    execFileSync("snapper", command, { stdio: "ignore" });
    const path = pathFromText(file);
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    const [one, ...others] = await search(lost);
    expect(others).to.deep.equal([]);
    expect([one?.text, one?.candidate.fidelity]).to.deep.equal(["kept\n", "exact"]);
    expect(one?.candidate.origin).to.contain("(snapper)").and.to.contain("/.snapshots/1/snapshot");
  });

  it("is not believed to be a snapshot because a folder has the name of one", async () => {
    await folder().write("data/.snapshots/1/snapshot/a.txt", "planted\n");
    await folder().write("data/.zfs/snapshot/x/a.txt", "planted\n");
    expect(await search(lostFile(folder().bytes("data/a.txt")))).to.deep.equal([]);
  });

  it("never follows a link that somebody laid in the place of a snapshot", async () => {
    await folder().write("secret/a.txt", "secret\n");
    await folder().folder("data/.snapshot");
    await symlink(folder().at("secret"), folder().at("data/.snapshot/daily"));
    expect(await search(lostFile(folder().bytes("data/a.txt")))).to.deep.equal([]);
  });

  it("comes from named folders, by a pattern, such as mounted LVM snapshots", async () => {
    for (const day of ["mon", "tue"]) {
      await folder().write(`mnt/snap-${day}/srv/app/a.txt`, `${day}\n`);
      await utimes(folder().at(`mnt/snap-${day}/srv/app/a.txt`), 1000, day === "mon" ? 1000 : 2000);
    }
    const all = await search(lostFile(pathFromText("/data/srv/app/a.txt")), {
      roots: [`${folder().at("mnt")}/snap-*`],
      of: "/data",
    });
    expect(all.map(({ text }) => text)).to.deep.equal(["tue\n", "mon\n"]);
  });
});

interface Found {
  readonly candidate: Candidate;
  readonly text: string;
}

async function found(
  strategy: RecoveryStrategy,
  lost: LostFile,
  parameters: Readonly<Record<string, unknown>>,
  around: { readonly scratchDir: string; readonly notes: string[] },
): Promise<readonly Found[]> {
  const all: Found[] = [];
  const search = { parameters, scratchDir: around.scratchDir, note: (text: string) => void around.notes.push(text) };
  for await (const candidate of strategy.find(lost, search, NEVER))
    all.push({ candidate, text: (await bytesOf(candidate.open(NEVER))).toString() });
  return all;
}
