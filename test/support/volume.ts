/** A file system of a wanted kind, new and empty, mounted for one test. Needs root. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { hasProgram } from "./requirements.js";

export const VOLUME_KINDS = ["ext4", "xfs", "btrfs", "tmpfs"] as const;
export type VolumeKind = (typeof VOLUME_KINDS)[number];

/** Room for a store and a little data; mkfs.xfs makes nothing smaller than 300 MiB. The image is sparse. */
const SIZE = "512M";

export class Volume implements AsyncDisposable {
  readonly place: string;

  private constructor(place: string) {
    this.place = place;
  }

  /** Why this machine cannot have one of that kind; undefined when it can. */
  static missing(kind: VolumeKind): string | undefined {
    if (process.getuid?.() !== 0) return "needs root";
    const isKnown = readFileSync("/proc/filesystems", "latin1")
      .split("\n")
      .some((line) => line.endsWith(`\t${kind}`));
    if (!isKnown) return `this kernel has no ${kind}`;
    return kind === "tmpfs" || hasProgram(`mkfs.${kind}`) ? undefined : `not installed: mkfs.${kind}`;
  }

  /** Makes it in the new file `image` (tmpfs: in memory) and mounts it at `place`, which is made. */
  static make(kind: VolumeKind, image: string, place: string): Volume {
    mkdirSync(place, { recursive: true });
    if (kind === "tmpfs") execFileSync("mount", ["-t", "tmpfs", "-o", `size=${SIZE}`, "tmpfs", place]);
    else {
      execFileSync("truncate", ["-s", SIZE, image]);
      execFileSync(`mkfs.${kind}`, ["-q", image]);
      execFileSync("mount", ["-o", "loop", image, place]);
    }
    return new Volume(place);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    execFileSync("umount", ["-l", this.place]);
    await Promise.resolve();
  }
}
