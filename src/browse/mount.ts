/**
 * Backups mounted on a folder, served by this process until it is unmounted (Ctrl-C, `umount`). The file system is
 * read-only and holds nothing that has to be written back: it can be taken away at any moment.
 */
import { closeSync } from "node:fs";
import type { Clock } from "../base/clock.js";
import { errnoOf } from "../base/errors.js";
import type { MountCalls } from "../base/native.js";
import { pathText } from "../base/paths.js";
import { BackupTree } from "./backup-tree.js";
import { ContentCache } from "./content-cache.js";
import { FileRuns } from "./file-runs.js";
import { FuseConnection } from "./fuse/connection.js";
import { BackupFileSystem } from "./fuse/file-system.js";
import type { Place } from "./fuse/inodes.js";
import type { BackupLibrary } from "./library.js";
import { type MountPoint, isMounted, mount, prepareMountPoint, requireMountCalls, unmount } from "./mount-point.js";

export interface MountOptions extends MountPoint {
  readonly library: BackupLibrary;
  readonly clock: Clock;
  /** Content kept in memory, bytes. */
  readonly cacheBytes: number;
  /** Told in words for a person: what was cleared away, what is still in use. */
  readonly tell: (line: string) => void;
  readonly onTrouble: (place: Pick<Place, "backupId" | "path">, error: unknown) => void;
}

/** After unmounting, programs that still read have this long before they are cut off, ms. */
const LEAVE_MS = 3_000;

export class BackupMount implements AsyncDisposable {
  readonly #options: MountOptions;
  readonly #calls: MountCalls;
  readonly #stop = new AbortController();
  readonly #served: Promise<void>;
  readonly #fd: number;
  #isClosed = false;

  private constructor(options: MountOptions, calls: MountCalls, fd: number) {
    this.#options = options;
    this.#calls = calls;
    this.#fd = fd;
    const { library, clock, cacheBytes, onTrouble } = options;
    const { signal } = this.#stop;
    const files = new BackupFileSystem({
      tree: new BackupTree(library, clock, signal),
      cache: new ContentCache(library, signal, cacheBytes),
      runs: new FileRuns(),
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
      startedMs: clock.nowMs(),
      onTrouble,
    });
    this.#served = new FuseConnection(fd, calls, files).serve(signal);
    this.#served.catch(() => undefined); // told by `served` and when it is closed
  }

  /** Mounts and serves. Throws MOUNT_POINT_INVALID, MOUNT_UNAVAILABLE, and what listing backups throws. */
  static async open(options: MountOptions, signal: AbortSignal): Promise<BackupMount> {
    const calls = requireMountCalls();
    await options.library.backups(signal); // a repository that cannot be read is told before anything is mounted
    await prepareMountPoint(options, calls, options.tell, signal);
    return new BackupMount(options, calls, await mount(options, calls, signal));
  }

  /** Resolves when somebody has unmounted it. Rejects when the connection to the kernel breaks. */
  get served(): Promise<void> {
    return this.#served;
  }

  /** Unmounts, waits a moment for programs that still read, and ends. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      if (await isMounted(this.#options.path)) await this.#unmount();
      await this.#waitForUsers();
    } finally {
      this.#stop.abort();
      await this.#served.catch(() => undefined);
      closeSync(this.#fd);
    }
  }

  async #unmount(): Promise<void> {
    const { path, tell } = this.#options;
    const signal = AbortSignal.timeout(UNMOUNT_TIMEOUT_MS);
    try {
      await unmount(path, this.#calls, { detach: false, signal });
    } catch (error) {
      if (errnoOf(error) === "EINVAL") return; // somebody was faster
      await unmount(path, this.#calls, { detach: true, signal });
      tell(`${pathText(path)} is still in use; programs that read it are cut off in ${LEAVE_MS / 1000} s.`);
    }
  }

  async #waitForUsers(): Promise<void> {
    const late = new AbortController();
    const timer = this.#options.clock.sleep(LEAVE_MS, late.signal).catch(() => undefined);
    await Promise.race([this.#served.catch(() => undefined), timer]);
    late.abort();
  }
}

const UNMOUNT_TIMEOUT_MS = 15_000;
