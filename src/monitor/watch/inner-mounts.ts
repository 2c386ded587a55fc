/**
 * File systems mounted below a source's roots, of a source that reaches into them. One that is no longer mounted is
 * away like a root that is: what was known below it is not judged. When its folder is removed too, it is forgotten.
 */
import { lstatSync } from "node:fs";
import { type BytePath, isWithin, pathBytes, pathText } from "../../base/paths.js";
import type { Mount } from "./mounts.js";

/** Inner mounts that are remembered; beyond, further ones are watched and not remembered. */
const MOUNTS_MAX = 1000;

export class InnerMounts {
  readonly #roots: readonly BytePath[];
  readonly #onAway: (point: BytePath, reason: string | undefined) => void;
  /** What was mounted where. */
  readonly #known = new Map<BytePath, string>();
  readonly #away = new Set<BytePath>();

  /** `onAway` is told that a mount is away, and with undefined that it is not any more. */
  constructor(roots: readonly BytePath[], onAway: (point: BytePath, reason: string | undefined) => void) {
    this.#roots = roots;
    this.#onAway = onAway;
  }

  get isEmpty(): boolean {
    return this.#known.size === 0;
  }

  /** Takes up what `text` gave before a restart; anything else is nothing. */
  take(text: string | undefined): void {
    try {
      const rows: unknown = JSON.parse(text ?? "[]");
      for (const row of Array.isArray(rows) ? (rows as unknown[]) : [])
        if (Array.isArray(row) && typeof row[0] === "string" && typeof row[1] === "string")
          this.#known.set(row[0] as BytePath, row[1]);
    } catch {
      // damaged: what is mounted now is learned anew
    }
  }

  text(): string {
    return JSON.stringify([...this.#known]);
  }

  /** Compares with what is mounted now. True when what is to be remembered changed. */
  look(mounts: readonly Mount[]): boolean {
    let hasChanged = false;
    for (const { point, what } of mounts) {
      const isInner = this.#roots.some((root) => point !== root && isWithin(point, root));
      if (!isInner || this.#known.get(point) === what || this.#known.size >= MOUNTS_MAX) continue;
      this.#known.set(point, what);
      hasChanged = true;
    }
    for (const point of this.#known.keys()) {
      const isThere = mounts.some((mount) => mount.point === point);
      if (!isThere && !isFolder(point)) {
        this.#known.delete(point);
        hasChanged = true;
      }
      this.#tell(point, !isThere && this.#known.has(point));
    }
    return hasChanged;
  }

  /** Points that are not mounted now. */
  away(mounts: readonly Mount[]): readonly BytePath[] {
    return [...this.#known.keys()].filter((point) => !mounts.some((mount) => mount.point === point));
  }

  /** Why what was known of a path says nothing: the mount that held it is away. */
  missingAbove(path: BytePath, mounts: readonly Mount[]): string | undefined {
    for (const point of this.#known.keys())
      if (isWithin(path, point) && !mounts.some((mount) => mount.point === point)) return awayText(point);
    return undefined;
  }

  #tell(point: BytePath, isAway: boolean): void {
    if (isAway === this.#away.has(point)) return;
    if (isAway) this.#away.add(point);
    else this.#away.delete(point);
    this.#onAway(point, isAway ? awayText(point) : undefined);
  }
}

function awayText(point: BytePath): string {
  return `the file system of ${pathText(point)} is not mounted`;
}

function isFolder(path: BytePath): boolean {
  try {
    return lstatSync(pathBytes(path)).isDirectory();
  } catch {
    return false;
  }
}
