/**
 * `fs_snapshots`: the file as it stands in snapshots of its file system, newest first. Found by where the common tools
 * put them: snapper and btrbk (`.snapshots` of a btrfs subvolume), ZFS (`.zfs/snapshot`), filers (`.snapshot`),
 * Timeshift; and in folders that are named, such as a mounted LVM snapshot. Nothing is mounted or run.
 * Parameters: `roots` (folders or patterns with `*`, each an image of `of`), `of` (folder, default `/`),
 * `max_age_hours` (judged by the chain).
 */
import { lstat, statfs } from "node:fs/promises";
import {
  type BytePath,
  isWithin,
  joinPath,
  nameOf,
  parentPath,
  pathBytes,
  pathFromText,
  pathText,
  relativeTo,
} from "../../base/paths.js";
import { anchoredStat, readAnchored } from "../anchored-file.js";
import { ParameterReader } from "../parameters.js";
import { fidelityByTime, msOfNs } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { quoted } from "./latest-backup.js";
import { namesIn } from "./trash.js";

const ID = "fs_snapshots";
/** Snapshots of one place that are looked into. */
const SNAPSHOTS_MAX = 500;
const BTRFS_MAGIC = 0x9123683e;
/** Every btrfs subvolume, and so every snapshot, has this inode at its top. */
const BTRFS_TOP_INODE = 256n;
const ZFS_MAGIC = 0x2fc12fc1;
/** Timeshift's copies of the subvolumes of `/` and `/home`. */
const TIMESHIFT = [
  { pattern: "/run/timeshift/*/backup/timeshift-btrfs/snapshots/*/@home", of: "/home" },
  { pattern: "/run/timeshift/*/backup/timeshift-btrfs/snapshots/*/@", of: "/" },
  { pattern: "/timeshift-btrfs/snapshots/*/@home", of: "/home" },
  { pattern: "/timeshift-btrfs/snapshots/*/@", of: "/" },
];

/** One image of a folder. */
interface Snapshot {
  /** Top of the snapshot. */
  readonly top: BytePath;
  /** The folder that it is an image of. */
  readonly of: BytePath;
  /** Below this folder no link is followed: where others may write, the snapshot's own name could be one. */
  readonly anchor: BytePath;
  readonly what: string;
}

export function fsSnapshotsStrategy(): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const found: Candidate[] = [];
      const seen = new Set<string>();
      for await (const snapshot of snapshotsOf(lost.path, search)) {
        signal.throwIfAborted();
        const candidate = candidateIn(snapshot, lost);
        if (candidate === undefined) continue;
        // Snapshots share the inode's times as long as the file was not changed: one is enough.
        const identity = `${String(candidate.modifiedAtMs)} ${String(candidate.sizeBytes)}`;
        if (!seen.has(identity)) found.push(candidate);
        seen.add(identity);
      }
      yield* found.sort((a, b) => (b.modifiedAtMs ?? 0) - (a.modifiedAtMs ?? 0));
    },
  };
}

async function* snapshotsOf(path: BytePath, search: Search): AsyncIterable<Snapshot> {
  const parameters = new ParameterReader(ID, search.parameters);
  const of = pathFromText(parameters.text("of") ?? "/", "/");
  for (const pattern of parameters.texts("roots") ?? []) {
    if (!pattern.startsWith("/")) throw parameters.wrong("roots", "absolute folders or patterns");
    for (const top of await matches(pattern)) yield { top, of, anchor: top, what: "snapshot" };
  }
  for (let folder = parentPath(path); ; folder = parentPath(folder)) {
    yield* besideOf(folder);
    if (folder === "/") break;
  }
  for (const { pattern, of: image } of TIMESHIFT)
    for (const top of await matches(pattern))
      if (await isBtrfsSnapshot(top)) yield { top, of: pathFromText(image), anchor: top, what: "Timeshift's snapshot" };
}

/** Snapshots that lie in a folder of its own; taken for such only where the file system proves it. */
async function* besideOf(folder: BytePath): AsyncIterable<Snapshot> {
  const at = { of: folder, anchor: folder };
  const kept = joinPath(folder, ".snapshots");
  for (const name of await numbered(kept)) {
    const [snapper, plain] = [joinPath(joinPath(kept, name), "snapshot"), joinPath(kept, name)];
    if (await isBtrfsSnapshot(snapper)) yield { ...at, top: snapper, what: "btrfs snapshot (snapper)" };
    else if (await isBtrfsSnapshot(plain)) yield { ...at, top: plain, what: "btrfs snapshot" };
  }
  const zfs = joinPath(folder, ".zfs/snapshot");
  if ((await fileSystemOf(zfs)) === ZFS_MAGIC)
    for (const name of await numbered(zfs)) yield { ...at, top: joinPath(zfs, name), what: "ZFS snapshot" };
  const filer = joinPath(folder, ".snapshot");
  for (const name of await numbered(filer)) yield { ...at, top: joinPath(filer, name), what: "the filer's snapshot" };
}

async function isBtrfsSnapshot(top: BytePath): Promise<boolean> {
  const stat = await lstat(pathBytes(top), { bigint: true }).catch(() => undefined);
  return stat?.isDirectory() === true && stat.ino === BTRFS_TOP_INODE && (await fileSystemOf(top)) === BTRFS_MAGIC;
}

async function fileSystemOf(folder: BytePath): Promise<number | undefined> {
  return await statfs(pathBytes(folder)).then(
    (found) => found.type,
    () => undefined,
  );
}

/** The names of snapshots, the last ones in the order of numbers and dates first. */
async function numbered(folder: BytePath): Promise<readonly string[]> {
  const names = await namesIn(folder);
  return [...names].sort((a, b) => b.localeCompare(a, "en", { numeric: true })).slice(0, SNAPSHOTS_MAX);
}

/** Folders that a pattern with `*` for a part of a name stands for. */
async function matches(pattern: string): Promise<readonly BytePath[]> {
  let found: readonly BytePath[] = [pathFromText("/")];
  for (const part of pathFromText(pattern, "/")
    .split("/")
    .filter((name) => name !== "")) {
    const next: BytePath[] = [];
    for (const folder of found) {
      if (!part.includes("*")) next.push(joinPath(folder, part));
      else {
        const names = (await numbered(folder)).filter((name) => fits(name, part));
        next.push(...names.map((name) => joinPath(folder, name)));
      }
    }
    found = next.slice(0, SNAPSHOTS_MAX);
  }
  return found;
}

function fits(name: string, part: string): boolean {
  const [first = "", ...others] = part.split("*");
  const last = others.pop() ?? "";
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  let at = first.length;
  for (const middle of others) {
    const found = name.indexOf(middle, at);
    if (found === -1 || found + middle.length > name.length - last.length) return false;
    at = found + middle.length;
  }
  return true;
}

function candidateIn(snapshot: Snapshot, lost: LostFile): Candidate | undefined {
  if (!isWithin(lost.path, snapshot.of)) return undefined;
  const file = joinPath(snapshot.top, relativeTo(lost.path, snapshot.of));
  const stat = anchoredStat(snapshot.anchor, file);
  if (stat === undefined) return undefined;
  const modifiedAtMs = msOfNs(stat.mtimeNs);
  const good = lost.lastGood;
  const isUnchanged = stat.mtimeNs === good?.stat.mtimeNs && Number(stat.size) === good.stat.sizeBytes;
  return {
    strategy: ID,
    origin: `${snapshot.what} ${pathText(snapshot.top)}`,
    fidelity: isUnchanged ? "exact" : fidelityByTime(lost, modifiedAtMs),
    modifiedAtMs,
    sizeBytes: Number(stat.size),
    ownerUid: Number(stat.uid),
    notes: [`it stands in ${textOfName(snapshot.top)}`],
    command: `cp -a ${quoted(pathText(file))} RECOVERED`,
    open: (signal) => readAnchored(snapshot.anchor, file, signal),
  };
}

function textOfName(path: BytePath): string {
  const name = nameOf(path);
  return Buffer.from(name === "snapshot" ? nameOf(parentPath(path)) : name, "latin1").toString("utf8");
}
