/**
 * A writer's lease: `leases/<writer>`, made at the start and removed at a clean end. The lock of `store-lock.ts` lets one
 * writer in; but a lock can be lost (a file deleted, a disk mounted on two machines, containers that do not see each
 * other's processes) and a writer can sleep for days and wake. So whoever gets in removes every other lease first, and
 * only then reads what is there (those it has not fenced off yet stay as `<writer>.gone`); and no writer acknowledges anything before it has seen its own lease once more, after
 * the data was durable. What a writer was told is durable was so before its lease went, and is found by the next one. No
 * clock is asked.
 */
import { type BigIntStats, constants, statSync } from "node:fs";
import { type FileHandle, open, readdir, rename, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { storeAwayError, storeError } from "../../storage/store-error.js";
import { makeIfMissing } from "./store-lock.js";

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
  /** The folder of the leases, as it was then. */
  readonly #ground: BigIntStats;
  /** Told once, when the lease is found gone. */
  onLost: (error: HoldfastError) => void = () => undefined;
  #isLost = false;

  private constructor(
    path: string,
    file: FileHandle,
    { made, ground }: { readonly made: BigIntStats; readonly ground: BigIntStats },
    others: readonly string[],
  ) {
    this.#folder = dirname(path);
    this.#path = path;
    this.#file = file;
    this.#made = made;
    this.#ground = ground;
    this.others = others;
  }

  /** Takes the leases of all others away and makes one for this writer. The caller holds the store's lock. */
  static async take(storeFolder: string, writerId: string): Promise<WriterLease> {
    const folder = join(storeFolder, "leases");
    try {
      await makeIfMissing(folder);
      const others = new Set<string>();
      for (const name of await readdir(folder)) {
        const [, writer, gone] = LEASE.exec(name) ?? [];
        if (writer === undefined) continue;
        if (gone === undefined) await rename(join(folder, name), goneName(folder, writer));
        others.add(writer);
      }
      return await WriterLease.#make(join(folder, writerId), [...others]);
    } catch (error) {
      throw storeError(error, "taking the writer's lease");
    }
  }

  static async #make(path: string, others: readonly string[]): Promise<WriterLease> {
    const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await file.writeFile(`${String(process.pid)} ${hostname()}\n`);
      const found = { made: await file.stat({ bigint: true }), ground: await stat(dirname(path), { bigint: true }) };
      return new WriterLease(path, file, found, others);
    } catch (error) {
      // Nothing was written under it yet, so nobody has to be fenced off.
      await file.close().catch(() => undefined);
      await unlink(path).catch(() => undefined);
      throw error;
    }
  }

  /** The others are fenced off, or need not be: the next start is not to know of them. */
  async forgetOthers(): Promise<void> {
    for (const writer of this.others) await unlink(goneName(this.#folder, writer));
  }

  /**
   * To be asked after data is durable and before anybody is told so, and before anything is removed. Takes some
   * microseconds. Throws REPO_LOCKED when another process took over, REPO_NOT_FOUND when the store itself is away; it
   * stays so.
   */
  assertHeld(): void {
    if (!this.#isLost && this.#isThere()) return;
    const error = this.#isGroundThere()
      ? new HoldfastError("REPO_LOCKED", "another process has taken over the writing of this repository")
      : storeAwayError(dirname(this.#folder));
    if (!this.#isLost) this.onLost(error);
    this.#isLost = true;
    throw error;
  }

  #isThere(): boolean {
    return isSame(this.#path, this.#made);
  }

  #isGroundThere(): boolean {
    return isSame(this.#folder, this.#ground);
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

/** Whether the very same file or folder stands there. */
function isSame(path: string, known: BigIntStats): boolean {
  try {
    const found = statSync(path, { bigint: true });
    return found.ino === known.ino && found.dev === known.dev;
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return false;
    throw storeError(error, "looking at the writer's lease");
  }
}

function goneName(folder: string, writer: string): string {
  return join(folder, `${writer}.gone`);
}
