/** A repository in a temporary folder for tests of the engine: real files, real store, the system's clock. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { type BytePath, joinPath, pathBytes } from "../../src/base/paths.js";
import { Repository, type Unlock, type WalkedEntry } from "../../src/engine/repository.js";
import { kindOf } from "../../src/engine/metadata.js";
import type { FileNode } from "../../src/engine/types.js";
import type { FileIo } from "../../src/storage/file-io.js";
import type { TempFolder } from "./temp-folder.js";

export const UNLIMITED = new AbortController().signal;

export class EngineRig {
  readonly storeUrl: string;
  readonly stateDir: string;
  unlock: Unlock | undefined;

  private constructor(folderPath: string) {
    this.storeUrl = join(folderPath, "store");
    this.stateDir = join(folderPath, "state");
  }

  /** The rig of a repository that was made before, for another process. */
  static at(folderPath: string, unlock: Unlock | undefined): EngineRig {
    const rig = new EngineRig(folderPath);
    rig.unlock = unlock;
    return rig;
  }

  /** Makes a repository below the folder; encrypted with a random key unless told otherwise. */
  static async create(
    folder: TempFolder,
    options: { readonly encrypt?: boolean; readonly keyBytes?: Buffer; readonly io?: FileIo } = {},
  ): Promise<EngineRig> {
    const rig = new EngineRig(folder.path);
    const made = await Repository.init({
      storeUrl: rig.storeUrl,
      encrypt: options.encrypt ?? true,
      ...(options.keyBytes === undefined ? {} : { keyBytes: options.keyBytes }),
      ...(options.io === undefined ? {} : { io: options.io }),
      clock: systemClock,
      observer: silentObserver,
    });
    if (options.keyBytes !== undefined) rig.unlock = { keyBytes: options.keyBytes };
    if (made.keyBytes !== undefined) rig.unlock = { keyBytes: made.keyBytes };
    return rig;
  }

  async open(
    options: {
      readonly readOnly?: boolean;
      readonly stateDir?: string;
      readonly unlock?: Unlock;
      readonly io?: FileIo;
      readonly workers?: number;
      readonly clock?: Clock;
    } = {},
  ): Promise<Repository> {
    return await Repository.open({
      storeUrl: this.storeUrl,
      stateDir: options.stateDir ?? this.stateDir,
      unlock: options.unlock ?? this.unlock,
      readOnly: options.readOnly ?? false,
      workers: options.workers ?? 1,
      ...(options.io === undefined ? {} : { io: options.io }),
      clock: options.clock ?? systemClock,
      observer: silentObserver,
      signal: UNLIMITED,
    });
  }
}

/** Commits paths as changed and gives the receipt. */
export async function upsert(
  repository: Repository,
  source: string,
  paths: readonly BytePath[],
): ReturnType<Repository["commitChanges"]> {
  return await repository.commitChanges(
    source,
    paths.map((path) => ({ path, kind: "upsert" })),
    UNLIMITED,
  );
}

/** The whole content of a node, verified by the repository. */
export async function contentOf(repository: Repository, node: FileNode | undefined): Promise<Buffer> {
  if (node === undefined) throw new Error("there is no node");
  const parts: Buffer[] = [];
  for await (const part of repository.readContent(node, UNLIMITED)) parts.push(part);
  return Buffer.concat(parts);
}

/** Everything below a folder, the folder included, a folder at a time. */
export async function* walkFolder(root: BytePath): AsyncGenerator<WalkedEntry[]> {
  const stat = await lstat(pathBytes(root), { bigint: true });
  const kind = kindOf(stat);
  if (kind === undefined) return;
  const { dev, ino, mtimeNs, ctimeNs } = stat;
  yield [
    { path: root, kind, stat: { dev, ino, mtimeNs, ctimeNs, sizeBytes: kind === "file" ? Number(stat.size) : 0 } },
  ];
  if (kind !== "folder") return;
  const names = await readdir(pathBytes(root), { encoding: "buffer" });
  for (const name of names) yield* walkFolder(joinPath(root, name.toString("latin1")));
}

/** Names of all objects of the store below a prefix. */
export async function storeFiles(storeUrl: string, below: string): Promise<string[]> {
  const entries = await readdir(join(storeUrl, below), { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
