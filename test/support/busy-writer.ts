/**
 * A program that writes to files without a pause, in the ways that could be taken for a disk that loses bits: in place with
 * the times put back, by a new file and rename, by appending, through a mapping, and in two halves. Needs python3.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";

const SCRIPT = `
import hashlib, json, mmap, os, random, select, sys, time
folder, count, chance = sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3]))
path = lambda index: os.path.join(folder, "file-%d.bin" % index)
content = lambda index, number: (b"%08d of %04d\\n" % (number, index)) * 150
maps = {}
for index in range(count):
    with open(path(index), "wb") as file: file.write(content(index, 0))
    if index % 5 == 3:
        with open(path(index), "r+b") as file: maps[index] = mmap.mmap(file.fileno(), 0)
print("ready", flush=True)
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    number += 1
    index = chance.randrange(count)
    way, bytes = index % 5, content(index, number)
    if way == 0:
        times = os.stat(path(index))
        with open(path(index), "r+b") as file: file.write(bytes)
        os.utime(path(index), ns=(times.st_atime_ns, times.st_mtime_ns))
    elif way == 1:
        with open(path(index) + ".new", "wb") as file: file.write(bytes)
        os.rename(path(index) + ".new", path(index))
    elif way == 2:
        with open(path(index), "ab" if number % 10 else "wb") as file: file.write(bytes[:280])
    elif way == 3:
        maps[index][0:28] = bytes[0:28]
    else:
        with open(path(index), "wb") as file:
            file.write(bytes[:1000]); file.flush(); time.sleep(0.002); file.write(bytes[1000:])
    time.sleep(float(sys.argv[4]))
for mapping in maps.values(): mapping.close()
digest = lambda index: hashlib.sha256(open(path(index), "rb").read()).hexdigest()
print(json.dumps({"writes": number, "digests": {path(index): digest(index) for index in range(count)}}))
`;

export interface Written {
  readonly writes: number;
  /** SHA-256 of what each file held at the end, by path. */
  readonly digests: Readonly<Record<string, string>>;
}

interface Options {
  readonly folder: string;
  readonly files: number;
  readonly seed: number;
  readonly pauseMs: number;
}

export class BusyWriter {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
  }

  /** Makes the files and begins; each fifth is written through a mapping (those whose number leaves 3). */
  static async start({ folder, files, seed, pauseMs }: Options): Promise<BusyWriter> {
    const args = [folder, files, seed, pauseMs / 1000].map(String);
    const child = spawn("python3", ["-c", SCRIPT, ...args], { stdio: ["pipe", "pipe", "inherit"] });
    await once(child.stdout, "readable"); // it says that it is ready
    return new BusyWriter(child);
  }

  /** Ends it; gives what it left. */
  async stop(): Promise<Written> {
    this.#child.stdin.end("\n");
    const said = await text(this.#child.stdout);
    return JSON.parse(said.slice(said.indexOf("{"))) as Written;
  }
}
