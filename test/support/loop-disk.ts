/** A small ext4 disk in a file, which tests mount, unmount and let rot. Needs root. */
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";

export class LoopDisk implements AsyncDisposable {
  readonly place: string;
  readonly #image: string;
  readonly #device: string;

  private constructor(image: string, place: string, device: string) {
    this.#image = image;
    this.place = place;
    this.#device = device;
  }

  /** Makes the disk in a new file `image` and mounts it at the folder `place`, which is made. */
  static make(image: string, place: string, size = "8M"): LoopDisk {
    execFileSync("truncate", ["-s", size, image]);
    execFileSync("mkfs.ext4", ["-q", image]);
    return LoopDisk.#attach(image, place);
  }

  /**
   * The disk as it would come back after a power cut at this moment, mounted at `place`: nothing that is only in memory
   * is there. Whoever writes to the disk should be stopped meanwhile.
   */
  afterPowerCut(image: string, place: string): LoopDisk {
    copyFileSync(this.#image, image);
    return LoopDisk.#attach(image, place);
  }

  static #attach(image: string, place: string): LoopDisk {
    mkdirSync(place, { recursive: true });
    const device = execFileSync("losetup", ["-f", "--show", image], { encoding: "utf8" }).trim();
    const disk = new LoopDisk(image, place, device);
    disk.mount();
    return disk;
  }

  mount(): void {
    execFileSync("mount", [this.#device, this.place]);
  }

  /** Takes it away at once, also from those who use it. */
  unmount(): void {
    execFileSync("umount", ["-l", this.place]);
  }

  /**
   * The hardware goes: what is not in memory reads and writes with EIO from now on, and the file system notices it at
   * once and refuses all writing (EROFS).
   */
  fail(): void {
    truncateSync(this.#image, 0);
    execFileSync("losetup", ["-c", this.#device]);
    spawnSync("sync", ["-f", this.place], { stdio: "ignore" }); // fails: that is how it is noticed
  }

  /** Mounts it again so that nothing can be written. */
  forbidWrites(): void {
    execFileSync("mount", ["-o", "remount,ro", this.place]);
  }

  /** Gives a file at the top of the disk a ctime of long ago, as no program can while the disk is mounted. */
  age(name: string): void {
    execFileSync("umount", [this.place]);
    for (const field of ["ctime 20260101000000", "ctime_extra 0"])
      execFileSync("debugfs", ["-w", "-R", `set_inode_field /${name} ${field}`, this.#image], { stdio: "ignore" });
    execFileSync("blockdev", ["--flushbufs", this.#device]);
    this.mount();
  }

  /** Changes one bit of a file's content where it lies on the disk: no time and no size of the file moves. */
  rot(content: Buffer): void {
    execFileSync("umount", [this.place]);
    const bytes = readFileSync(this.#image);
    const at = bytes.indexOf(content);
    if (at === -1) throw new Error("the content does not lie on the disk in one piece");
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    writeFileSync(this.#image, bytes);
    execFileSync("blockdev", ["--flushbufs", this.#device]);
    this.mount();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const script = `umount -l '${this.place}' 2>/dev/null; losetup -d ${this.#device} 2>/dev/null; true`;
    execFileSync("sh", ["-c", script]);
    await Promise.resolve();
  }
}
