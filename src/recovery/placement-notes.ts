/**
 * Durable notes of files that are being put somewhere without an incident that would be taken up again after a crash: a
 * recovery to another place, and what goes back from quarantine. A note is there before anything is staged and goes when
 * that is over, so that the next start knows what to clear.
 */
import { mkdir, readFile, readdir } from "node:fs/promises";
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { unlinkIfThere, writeFileDurably } from "../base/atomic-file.js";
import type { Clock } from "../base/clock.js";
import { errnoOf } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { type BytePath, isWithin, nameOf, parentPath } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { isMapping } from "./parameters.js";
import { clearStagingOf } from "./staging.js";

/** Where something is being put. */
export interface Placement {
  readonly path: BytePath;
  /** Below this folder no link is followed. */
  readonly root: BytePath;
  /** In the names of the staging files. */
  readonly tag: string;
}

/** Notes that are read at a start. */
const NOTES_MAX = 1000;
/** A note whose folder is away is kept this long, ms. */
const AWAY_MS = 30 * 86_400_000;

export class PlacementNotes {
  readonly #folder: string;
  readonly #clock: Clock;

  /** `folder` is absolute, and made with the first note. */
  constructor(folder: string, clock: Clock) {
    this.#folder = folder;
    this.#clock = clock;
  }

  /** Runs work that puts a file to its place, noted as long as it takes. */
  async during<T>({ path, root, tag }: Placement, work: () => Promise<T>): Promise<T> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const file = join(this.#folder, `${randomHex(8)}.json`);
    // Paths are bytes as characters, which JSON keeps.
    await writeFileDurably(file, JSON.stringify({ path, root, tag, noted_at_ms: this.#clock.nowMs() }));
    try {
      return await work();
    } finally {
      await unlinkIfThere(file);
    }
  }

  /** Removes what a crash left staged; gives where saves of others are now that it had left at a staging name. */
  async clear(): Promise<readonly BytePath[]> {
    const kept: BytePath[] = [];
    for (const name of (await namesIn(this.#folder)).slice(0, NOTES_MAX)) {
      const file = join(this.#folder, name);
      const noted = placementIn(await readFile(file, "utf8"));
      if (noted !== undefined && !isThere(parentPath(noted.path)) && this.#clock.nowMs() - noted.atMs < AWAY_MS)
        continue;
      if (noted !== undefined) kept.push(...clearOf(noted));
      await unlinkIfThere(file);
    }
    return kept;
  }
}

/** Also the folders above may have been in the making. */
function clearOf({ path, root, tag }: Placement): readonly BytePath[] {
  const kept: BytePath[] = [];
  for (let folder = parentPath(path); isWithin(folder, root); folder = parentPath(folder)) {
    const names = folder === parentPath(path) ? [nameOf(path)] : [];
    kept.push(...clearStagingOf({ root, folder }, tag, names).kept);
    if (folder === "/") break;
  }
  return kept;
}

function placementIn(text: string): (Placement & { readonly atMs: number }) | undefined {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isMapping(document)) return undefined;
  const { path, root, tag, noted_at_ms: atMs } = document;
  if (!isPath(path) || !isPath(root) || typeof tag !== "string" || tag === "" || typeof atMs !== "number")
    return undefined;
  return { path, root, tag, atMs };
}

function isPath(value: unknown): value is BytePath {
  return typeof value === "string" && value.startsWith("/");
}

function isThere(folder: BytePath): boolean {
  try {
    return reach(folder, (place) => lstatSync(place, { throwIfNoEntry: false })) !== undefined;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "")) return false; // already on the way there
    throw error;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
