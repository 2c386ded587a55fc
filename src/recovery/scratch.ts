/**
 * The private folder of one recovery, where candidates' bytes are secured before they are judged: a file that exists
 * only as long as some process lives, or that someone else may change, is copied once and from then on is ours.
 */
import { createHash } from "node:crypto";
import { constants, createReadStream, mkdirSync, mkdtempSync } from "node:fs";
import { mkdir, open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError } from "../base/errors.js";

/** One candidate may take this much; larger ones only come straight from the repository. 8 GiB. */
export const SECURED_BYTES_MAX = 8 * 2 ** 30;

/** A candidate's bytes in our hands. */
export interface SecuredBytes {
  /** Absolute path of the copy. */
  readonly file: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export class ScratchFolder implements AsyncDisposable {
  readonly #parent: string;
  #path: string | undefined;
  #next = 0;

  constructor(parent: string) {
    this.#parent = parent;
  }

  /** The folder, made (0700) when it is asked for: what comes straight from the repository needs none. */
  get path(): string {
    if (this.#path === undefined) {
      mkdirSync(this.#parent, { recursive: true, mode: 0o700 });
      this.#path = mkdtempSync(join(this.#parent, "work-"));
    }
    return this.#path;
  }

  /** Removes what a crash left behind; call before the first recovery. */
  static async clear(parent: string): Promise<void> {
    await mkdir(parent, { recursive: true, mode: 0o700 });
    for (const name of await readdir(parent))
      if (name.startsWith("work-")) await rm(join(parent, name), { recursive: true, force: true });
  }

  /** Copies the bytes, counting and hashing them. Throws LIMIT_REACHED beyond `SECURED_BYTES_MAX`, and what reading throws. */
  async secure(content: AsyncIterable<Buffer>, signal: AbortSignal): Promise<SecuredBytes> {
    const file = join(this.path, `${String(this.#next++)}.bytes`);
    const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    const hash = createHash("sha256");
    let sizeBytes = 0;
    try {
      for await (const part of content) {
        signal.throwIfAborted();
        sizeBytes += part.length;
        if (sizeBytes > SECURED_BYTES_MAX) throw new HoldfastError("LIMIT_REACHED", "the candidate is too large");
        hash.update(part);
        await handle.writeFile(part);
      }
    } finally {
      await handle.close();
    }
    return { file, sizeBytes, sha256: hash.digest("hex") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#path !== undefined) await rm(this.#path, { recursive: true, force: true });
  }
}

/** The bytes of a secured file, as a candidate gives them. */
export function readSecured(file: string, signal: AbortSignal): AsyncIterable<Buffer> {
  return createReadStream(file, { signal }) as AsyncIterable<Buffer>;
}

/** SHA-256 of the bytes, 64 hex. */
export async function digestOf(content: AsyncIterable<Buffer>, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  for await (const part of content) {
    signal.throwIfAborted();
    hash.update(part);
  }
  return hash.digest("hex");
}

/** Git's id of a file's content as a blob, 40 hex. */
export async function gitBlobIdOf(secured: SecuredBytes, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha1").update(`blob ${String(secured.sizeBytes)}\0`);
  for await (const part of readSecured(secured.file, signal)) hash.update(part);
  return hash.digest("hex");
}
