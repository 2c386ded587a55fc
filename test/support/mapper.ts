/** A program that stores into a file through a shared mapping, when it is told to. Needs python3. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { lstatSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

const SCRIPT = `
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(fd, 0)
os.close(fd)
print("ready", flush=True)
for line in sys.stdin.buffer:
    mapping[0:1] = line[0:1]
    print("stored", flush=True)
`;

export class Mapper implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #file: string;
  readonly #lines: AsyncIterator<string, unknown>;

  private constructor(file: string, child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#file = file;
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Maps the file; its descriptor is closed again. */
  static async of(file: string): Promise<Mapper> {
    const child = spawn("python3", ["-c", SCRIPT, file], { stdio: ["pipe", "pipe", "inherit"] });
    const mapper = new Mapper(file, child);
    await mapper.#said("ready");
    return mapper;
  }

  /** Stores a character at the file's begin; gives whether any time or size of the file moved by that. */
  async store(character: string): Promise<"moved" | "unseen"> {
    const before = this.#stamp();
    this.#child.stdin.write(`${character}\n`);
    await this.#said("stored");
    return this.#stamp() === before ? "unseen" : "moved";
  }

  /** Ends the program; what it stored stays in the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin.end();
    await ended;
  }

  #stamp(): string {
    const { ino, size, mtimeNs, ctimeNs } = lstatSync(this.#file, { bigint: true });
    return [ino, size, mtimeNs, ctimeNs].join(":");
  }

  async #said(word: string): Promise<void> {
    const { done, value } = await this.#lines.next();
    if (done === true || value !== word) throw new Error(`the program said ${String(value)} instead of ${word}`);
  }
}
