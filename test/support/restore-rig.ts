/** A small tree backed up into a real repository, restored elsewhere, and trees described so that two can be compared. */
import { createHash } from "node:crypto";
import { lstatSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { nativeCalls } from "../../src/base/native.js";
import { type BytePath, joinPath, pathBytes } from "../../src/base/paths.js";
import type { Repository } from "../../src/engine/repository.js";
import { type RestoreReport, type RestoreRequest, restore } from "../../src/engine/restore.js";
import type { Entry, Manifest } from "../../src/engine/types.js";
import { UNLIMITED, walkFolder } from "./engine-rig.js";

/** Backs up a folder with everything in it; gives the manifest. */
export async function backUpFolder(repository: Repository, root: BytePath): Promise<Manifest> {
  const source = { name: "docs", roots: [root], walk: walkFolder(root), encryptionRequired: false };
  return await repository.createBackup({ type: "incremental", sources: [source] }, UNLIMITED);
}

/** Restores the latest backup, overwriting always unless told otherwise. */
export async function restoreLatest(
  repository: Repository,
  target: BytePath | undefined,
  options: Partial<RestoreRequest> = {},
  signal: AbortSignal = UNLIMITED,
): Promise<RestoreReport> {
  const request: RestoreRequest = {
    entries: repository.backupEntries("latest", {}, signal),
    target,
    overwrite: "always",
    inPlace: false,
    delete: false,
    dryRun: false,
    verify: false,
    sparse: false,
    ...options,
  };
  return await restore(repository, request, signal);
}

/** Entries made by hand, as a restore takes them. */
export async function* each(entries: readonly Entry[]): AsyncGenerator<Entry> {
  await Promise.resolve();
  yield* entries;
}

/**
 * Everything that can be seen of a tree, one line a name: kind, mode, owner, time (ns), size, digest, link target,
 * attributes, and for inodes with several names the first of them. Bytes of names show as characters.
 */
export function describeTree(root: BytePath): string[] {
  const firstNames = new Map<string, string>();
  const lines: string[] = [];
  const visit = (path: BytePath, shown: string): void => {
    const stat = lstatSync(pathBytes(path), { bigint: true });
    const inode = `${stat.dev}:${stat.ino}`;
    const first = stat.isDirectory() ? shown : (firstNames.get(inode) ?? shown);
    firstNames.set(inode, first);
    const size = stat.isFile() ? stat.size : 0n;
    const facts = [
      stat.mode.toString(8),
      stat.uid,
      stat.gid,
      stat.mtimeNs,
      size,
      stat.rdev,
      contentOf(path, stat),
      first,
    ];
    lines.push([shown, ...facts, ...attributesOf(path)].join(" "));
    if (!stat.isDirectory()) return;
    for (const name of readdirSync(pathBytes(path), "latin1").sort()) visit(joinPath(path, name), `${shown}/${name}`);
  };
  visit(root, ".");
  return lines;
}

function contentOf(path: BytePath, stat: ReturnType<typeof lstatSync>): string {
  if (stat?.isSymbolicLink() === true) return readlinkSync(pathBytes(path), "latin1");
  if (stat?.isFile() !== true) return "";
  return createHash("sha256")
    .update(readFileSync(pathBytes(path)))
    .digest("hex");
}

function attributesOf(path: BytePath): string[] {
  const native = nativeCalls();
  const target = { path: pathBytes(path) };
  const names = native?.listXattrs(target) ?? [];
  return names.sort().map((name) => `${name}=${native?.getXattr(target, name)?.toString("hex") ?? ""}`);
}
