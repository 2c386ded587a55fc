/**
 * Removing what does not belong: with `delete`, names that are not among the entries; always, staging names that a
 * killed restore left. It never leaves the file system it is on, never follows a link, and spares the store. What is not
 * stored is kept before it is removed.
 */
import { type BigIntStats, fstatSync } from "node:fs";
import type { AnchoredFolder } from "../../base/anchored.js";
import { STAGING_PREFIX } from "../../base/atomic-file.js";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, joinPath } from "../../base/paths.js";
import type { Keeper } from "./keep-first.js";
import { assertKept, stampOf } from "./kept-stamp.js";
import type { Ledger } from "./ledger.js";
import { isLeftover, unlinkQuietly } from "./place-name.js";

/** Folders that are never removed, as `device:inode`. */
export type Spared = ReadonlySet<string>;

export interface SweepOptions {
  readonly dryRun: boolean;
  readonly spared: Spared;
  readonly ledger: Ledger;
  /** Keeps what is to be removed; undefined: it need not be kept. */
  readonly keeper: Keeper | undefined;
  /** Told of each path that is gone. */
  readonly onRemoved?: ((place: SweptPlace) => void) | undefined;
}

/** The place of a folder that is swept, and whose it is. */
export interface SweptPlace {
  readonly path: BytePath;
  readonly source: string;
}

/** Removes the staging names of restores whose process is gone. */
export function clearLeftovers(folder: AnchoredFolder): void {
  for (const name of folder.names()) if (isLeftover(name)) unlinkQuietly(folder, name);
}

/** Removes everything in the folder that is not among `names`. What cannot be removed is listed as failed. */
export async function sweepFolder(
  folder: AnchoredFolder,
  place: SweptPlace,
  names: ReadonlySet<string>,
  options: SweepOptions,
): Promise<void> {
  const surplus = folder.names().filter((name) => !names.has(name) && !name.startsWith(STAGING_PREFIX));
  await new Sweep(options).remove(folder, place, surplus);
}

class Sweep {
  readonly #options: SweepOptions;

  constructor(options: SweepOptions) {
    this.#options = options;
  }

  /** Removes names of a folder: the files first, which are kept together, then folders with what is in them. */
  async remove(folder: AnchoredFolder, place: SweptPlace, names: readonly string[]): Promise<void> {
    const found = names.flatMap((name) => {
      const stat = folder.lstat(name);
      return stat === undefined ? [] : [{ name, path: joinPath(place.path, name), stat }];
    });
    const files = found.filter(({ stat }) => !stat.isDirectory());
    const refused = await this.#options.keeper?.keep(files.map((file) => ({ ...file, source: place.source })));
    for (const file of files) this.#removeFile(folder, { ...file, source: place.source }, refused?.get(file.path));
    for (const { name, path, stat } of found.filter((each) => each.stat.isDirectory())) {
      await this.#removeFolder(folder, name, { path, stat, source: place.source });
    }
  }

  #removeFile(
    folder: AnchoredFolder,
    { name, path, source, stat }: SweptPlace & { readonly name: string; readonly stat: BigIntStats },
    refused: string | undefined,
  ): void {
    const { dryRun, ledger, keeper } = this.#options;
    try {
      if (refused !== undefined) throw new HoldfastError("TARGET_EXISTS", refused);
      if (keeper?.isStrict === true) assertKept(folder.lstat(name), stampOf(stat));
      if (!dryRun) folder.unlink(name);
      ledger.did(path, "delete");
      if (!dryRun) this.#options.onRemoved?.({ path, source });
    } catch (error) {
      ledger.fail(path, error);
    }
  }

  async #removeFolder(
    parent: AnchoredFolder,
    name: string,
    { path, source, stat }: SweptPlace & { readonly stat: BigIntStats },
  ): Promise<void> {
    const { dryRun, ledger, spared } = this.#options;
    const failedBefore = ledger.failedCount;
    try {
      if (stat.dev !== fstatSync(parent.fd, { bigint: true }).dev)
        throw new HoldfastError("TARGET_UNSAFE", "it is on another file system");
      if (spared.has(`${stat.dev}:${stat.ino}`)) throw new HoldfastError("TARGET_UNSAFE", "holdfast lives there");
      const child = parent.child(name);
      try {
        await this.remove(child, { path, source }, child.names());
      } finally {
        child.close();
      }
      if (ledger.failedCount > failedBefore) return; // what stays in it is listed already
      if (!dryRun) parent.rmdir(name);
      ledger.did(path, "delete");
      if (!dryRun) this.#options.onRemoved?.({ path, source });
    } catch (error) {
      ledger.fail(path, error);
    }
  }
}
