/**
 * A real folder for one test, gone afterwards. `await using folder = await TempFolder.create()` inside a test, or
 * `const folder = useTempFolder()` in a `describe` and `folder().path` in its tests.
 */
import { execFile } from "node:child_process";
import { accessSync, constants, mkdirSync } from "node:fs";
import { chmod, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { type BytePath, pathFromText } from "../../src/base/paths.js";

export class TempFolder implements AsyncDisposable {
  /** Absolute and free of symbolic links. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** A new empty folder below the system's temporary folder (or below `parent`). */
  static async create(label = "test", parent = tmpdir()): Promise<TempFolder> {
    return new TempFolder(await realpath(await mkdtemp(join(parent, `holdfast-${label}-`))));
  }

  /** A folder that another process made and will remove; `path` is absolute and free of symbolic links. */
  static at(path: string): TempFolder {
    return new TempFolder(path);
  }

  /** A folder below this one that goes with it; it is made when it is missing. */
  below(name: string): TempFolder {
    const path = this.at(name);
    mkdirSync(path, { recursive: true });
    return new TempFolder(path);
  }

  /** The path of a name below the folder; nothing is made. */
  at(...names: string[]): string {
    return join(this.path, ...names);
  }

  /** The same as a `BytePath`. */
  bytes(...names: string[]): BytePath {
    return pathFromText(this.at(...names));
  }

  /** Writes a file, making the folders above it; gives its path. `mode` is set whatever the umask is. */
  async write(name: string, content: string | Uint8Array, mode?: number): Promise<string> {
    const path = this.at(name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    if (mode !== undefined) await chmod(path, mode);
    return path;
  }

  /** Makes a folder and those above it; gives its path. */
  async folder(...names: string[]): Promise<string> {
    const path = this.at(...names);
    await mkdir(path, { recursive: true });
    return path;
  }

  /** Removes the folder with everything in it, also what has no write permission. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await rm(this.path, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      await makeRemovable(this.path);
      await rm(this.path, { recursive: true, force: true });
    }
  }
}

/** Memory where the system offers some, for tests that write much and need no disk; else the temporary folder. */
export function fastTempParent(): string {
  try {
    accessSync("/dev/shm", constants.R_OK | constants.W_OK | constants.X_OK);
    return "/dev/shm";
  } catch {
    return tmpdir();
  }
}

/** A fresh folder for each test of the surrounding `describe`. */
export function useTempFolder(label?: string): () => TempFolder {
  let current: TempFolder | undefined;
  beforeEach(async () => {
    current = await TempFolder.create(label);
  });
  afterEach(async () => {
    await current?.[Symbol.asyncDispose]();
    current = undefined;
  });
  return () => {
    if (current === undefined) throw new Error("the temporary folder exists only while a test runs");
    return current;
  };
}

/** Takes off the immutable flags and gives back the permissions that a test may have changed. */
async function makeRemovable(folder: string): Promise<void> {
  const run = promisify(execFile);
  await run("chattr", ["-R", "-f", "-i", "-a", folder]).catch(() => undefined);
  await run("chmod", ["-R", "u+rwX", folder]).catch(() => undefined);
}
