/** A small btrfs disk in a file, for tests that need real snapshots. Needs root and btrfs-progs. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";

/** True when this kernel can mount btrfs. */
export function hasBtrfs(): boolean {
  return readFileSync("/proc/filesystems", "latin1").includes("\tbtrfs\n");
}

export class BtrfsDisk implements AsyncDisposable {
  readonly place: string;

  private constructor(place: string) {
    this.place = place;
  }

  /** Makes the disk in a new file `image` and mounts it at the folder `place`, which is made. */
  static make(image: string, place: string): BtrfsDisk {
    mkdirSync(place, { recursive: true });
    execFileSync("truncate", ["-s", "32M", image]);
    execFileSync("mkfs.btrfs", ["-q", "-M", image]);
    execFileSync("mount", ["-o", "loop", image, place]);
    return new BtrfsDisk(place);
  }

  /** A new subvolume at a name below the disk. */
  subvolume(name: string): string {
    execFileSync("btrfs", ["-q", "subvolume", "create", `${this.place}/${name}`]);
    return `${this.place}/${name}`;
  }

  /** A read-only snapshot, as snapper makes it: `.snapshots/<number>/snapshot` of the subvolume. */
  snapshot(subvolume: string, number: number): string {
    const folder = `${subvolume}/.snapshots/${String(number)}`;
    mkdirSync(folder, { recursive: true });
    execFileSync("btrfs", ["-q", "subvolume", "snapshot", "-r", subvolume, `${folder}/snapshot`]);
    return `${folder}/snapshot`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    execFileSync("umount", ["-l", this.place]);
    await Promise.resolve();
  }
}
