/**
 * A writer's lease: `leases/<writer>`, made at the start and removed at a clean end. The lock of `store-lock.ts` lets one
 * writer in; but a lock can be lost (a file deleted, a disk mounted on two machines, containers that do not see each
 * other's processes) and a writer can sleep for days and wake. So whoever gets in removes every other lease first, and
 * only then reads what is there (those it has not fenced off yet stay as `<writer>.gone`); and no writer acknowledges anything before it has seen its own lease once more, after
 * the data was durable. What a writer was told is durable was so before its lease went, and is found by the next one. No
 * clock is asked.
 */
import { type BigIntStats, constants, statSync } from "node:fs";
import { type FileHandle, mkdir, open, readdir, rename, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { storeError } from "../../storage/store-error.js";

/** A lease, or one that was taken away and whose writer was not fenced off yet. */
const LEASE = /^([0-9a-f]{16})(\.gone)?$/;

export class WriterLease implements AsyncDisposable {
  /** Writers whose lease was there: ended in the middle, or alive and without the lock. This writer itself may be among them. */
  readonly others: readonly string[];
  readonly #folder: string;
  readonly #path: string;
  /** Held open, so that no other file can have its inode. */
  readonly #file: FileHandle;
  readonly #made: BigIntStats;
  /** Told once, when the lease is found gone. */
  onLost: (error: HoldfastError) => void = () => undefined;
  #isLost = false;

  private constructor(path: string, file: FileHandle, made: BigIntStats, others: readonly string[]) {
    this.#folder = dirname(path);
    this.#path = path;
    this.#file = file;
    this.#made = made;
    this.others = others;
  }

  /** Takes the leases of all others away and makes one for this writer. The caller holds the store's lock. */
  static async take(storeFolder: string, writerId: string): Promise<WriterLease> {
    const folder = join(storeFolder, "leases");
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const others = new Set<string>();
      for (const name of await readdir(folder)) {
        const [, writer, gone] = LEASE.exec(name) ?? [];
        if (writer === undefined) continue;
        if (gone === undefined) await rename(join(folder, name), goneName(folder, writer));
        others.add(writer);
      }
      const path = join(folder, writerId);
      const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
      await file.write(`${String(process.pid)} ${hostname()}\n`);
      return new WriterLease(path, file, await file.stat({ bigint: true }), [...others]);
    } catch (error) {
      throw storeError(error, "taking the writer's lease");
    }
  }

  /** The others are fenced off, or need not be: the next start is not to know of them. */
  async forgetOthers(): Promise<void> {
    for (const writer of this.others) await unlink(goneName(this.#folder, writer));
  }

  /**
   * To be asked after data is durable and before anybody is told so, and before anything is removed. Takes some
   * microseconds. Throws REPO_LOCKED when another process took over; it stays so.
   */
  assertHeld(): void {
    if (!this.#isLost && this.#isThere()) return;
    const error = new HoldfastError("REPO_LOCKED", "another process has taken over the writing of this repository");
    if (!this.#isLost) this.onLost(error);
    this.#isLost = true;
    throw error;
  }

  #isThere(): boolean {
    try {
      const found = statSync(this.#path, { bigint: true });
      return found.ino === this.#made.ino && found.dev === this.#made.dev;
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
      throw storeError(error, "looking at the writer's lease");
    }
  }

  /** A clean end: whoever comes next need not fence this writer off. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.#isLost && this.#isThere()) await unlink(this.#path);
    } catch {
      // it stays behind, as after a crash
    } finally {
      await this.#file.close();
    }
  }
}

function goneName(folder: string, writer: string): string {
  return join(folder, `${writer}.gone`);
}
