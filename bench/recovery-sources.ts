/** Losses for the recovery bench: how each place where bytes may still be comes to hold a lost file, by real programs. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, cp, link, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { systemClock } from "../src/base/clock.js";
import { silentObserver } from "../src/base/observe.js";
import { type BytePath, pathFromText } from "../src/base/paths.js";
import type { FileNode } from "../src/engine/types.js";
import { LinkPins, type LinkReader } from "../src/recovery/link-pins.js";
import type { LinkKind } from "../src/recovery/pin-folder.js";
import { Pins } from "../src/recovery/pins.js";
import type { ChainStep } from "../src/recovery/strategy.js";
import { BtrfsDisk, hasBtrfs } from "../test/support/btrfs-disk.js";
import { DebianRoot } from "../test/support/debian-root.js";
import { spawnHolder } from "../test/support/file-holder.js";
import { git } from "../test/support/git.js";
import type { RecoveryRig } from "../test/support/recovery-rig.js";
import { hasProgram } from "../test/support/requirements.js";
import { RpmRoot } from "../test/support/rpm-root.js";
import { makeLiveDatabase } from "../test/support/sqlite-database.js";
import { killVimAfter } from "../test/support/vim.js";
import { Volume } from "../test/support/volume.js";

/** A loss that is about to happen: the file is there, protected, and its trace is laid. */
export interface Loss {
  readonly path: BytePath;
  readonly file: string;
  /** What must come back. */
  readonly expected: Buffer;
  /** Ends what holds the trace. */
  readonly end?: () => Promise<void>;
}

export interface Source {
  readonly name: string;
  /** Why it cannot run here; undefined when it can. */
  readonly missing?: string | undefined;
  /** Steps beside or instead of the common chain. */
  readonly chain?: (rig: RecoveryRig) => readonly ChainStep[];
  /** Prepares the whole field once. */
  readonly open?: (field: Field) => Promise<void>;
  /** Makes the loss of that number. */
  readonly make: (field: Field, index: number) => Promise<Loss>;
}

/** Where one source's losses happen. */
export interface Field {
  readonly rig: RecoveryRig;
  readonly pins: Pins;
  /** Watched files, for the pins. */
  readonly watched: BytePath[];
  /** Losses that will be made. */
  readonly cases: number;
  /** Absolute path below the rig's folder. */
  readonly at: (name: string) => string;
  /** From now on these are asked for kept links. */
  readonly useLinks: (links: LinkReader) => void;
  /** Closed at the end, in reverse order. */
  readonly defer: (close: () => Promise<void>) => void;
}

export function pinsFor(rig: RecoveryRig, watched: readonly BytePath[], stateDir: string): Pins {
  return new Pins({
    clock: systemClock,
    observer: silentObserver,
    bus: rig.bus,
    isCritical: () => true,
    // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
    filesOf: async function* () {
      yield* watched;
    },
    stateDir,
  });
}

const MAPPER = `
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
fd = os.open(sys.argv[1], os.O_RDONLY)
libc.mmap(None, os.fstat(fd).st_size, 1, 1, fd, 0)
os.close(fd)
print("mapped", flush=True)
sys.stdin.read()
`;

export const SOURCES: readonly Source[] = [
  {
    name: "pinned descriptor",
    open: async ({ watched, cases, at }) => {
      for (let index = 0; index < cases; index += 1) watched.push(pathFromText(at(`data/pinned-${String(index)}`)));
      await Promise.resolve();
    },
    make: async (field, index) => {
      const loss = await plain(field, `pinned-${String(index)}`, textOf(index));
      field.rig.bus.emit("watch.ready", { source: "data" });
      await field.pins.settled();
      await appendFile(loss.file, "written after the last backup\n");
      return { ...loss, expected: Buffer.from(`${textOf(index)}written after the last backup\n`) };
    },
  },
  linkSource("hard link that holdfast keeps", "hard_link"),
  {
    ...linkSource("reflink that holdfast keeps (xfs)", "reflink"),
    missing: Volume.missing("xfs"),
    open: async (field) => {
      const volume = Volume.make("xfs", field.at("xfs.img"), field.at("data"));
      field.defer(() => volume[Symbol.asyncDispose]());
      await openLinks(field, "reflink");
    },
  },
  {
    name: "descriptor of a process",
    make: async (field, index) => {
      const loss = await plain(field, `held-${String(index)}`, textOf(index));
      const holder = await spawnHolder(loss.file, "r");
      return { ...loss, end: () => holder.end() };
    },
  },
  {
    name: "mapping of a process",
    missing: needs("python3"),
    make: async (field, index) => {
      const loss = await plain(field, `mapped-${String(index)}`, textOf(index));
      const child = spawn("python3", ["-c", MAPPER, loss.file], { stdio: ["pipe", "pipe", "inherit"] });
      await once(child.stdout, "data");
      const end = async (): Promise<void> => {
        child.stdin.end();
        await once(child, "exit");
      };
      return { ...loss, end };
    },
  },
  gitSource("git: index", async (folder, name) => {
    await git(folder, "add", name);
  }),
  gitSource("git: commit", async (folder, name) => {
    await git(folder, "add", name);
    await git(folder, "commit", "-q", "-m", "kept");
  }),
  gitSource("git: stash", async (folder, name) => {
    await git(folder, "add", name);
    await git(folder, "stash", "push", "-q");
  }),
  gitSource("git: dropped stash", async (folder, name) => {
    await git(folder, "add", name);
    await git(folder, "stash", "push", "-q");
    await git(folder, "stash", "drop", "-q");
  }),
  gitSource("git: staged, then overwritten", async (folder, name) => {
    await git(folder, "add", name);
    await writeFile(`${folder}/${name}`, "something else\n");
    await git(folder, "add", name);
  }),
  {
    name: "git-lfs object",
    missing: needs("git", "git-lfs"),
    open: async ({ at }) => {
      await mkdir(at("data"), { recursive: true });
      await git(at("data"), "init", "-q");
      await git(at("data"), "lfs", "install", "--local");
      await git(at("data"), "lfs", "track", "*.bin");
    },
    make: async (field, index) => {
      const loss = await plain(field, `model-${String(index)}.bin`, textOf(index));
      await git(field.at("data"), "add", "-A");
      await git(field.at("data"), "commit", "-q", "-m", "kept");
      return loss;
    },
  },
  {
    name: "vim swap file",
    missing: needs("vim"),
    make: async (field, index) => {
      const loss = await plain(field, `vim-${String(index)}.txt`, "one\ntwo\n");
      const added = `unsaved ${String(index)} of this session`;
      await killVimAfter(loss.file, { keys: `o${added}\\<Esc>`, until: added });
      field.rig.register(loss.path);
      return { ...loss, expected: Buffer.from(`one\n${added}\ntwo\n`) };
    },
  },
  {
    name: "emacs autosave",
    missing: needs("emacs"),
    make: async (field, index) => {
      const loss = await plain(field, `emacs-${String(index)}.txt`, "one\n");
      const lisp = `(progn (find-file "${loss.file}") (goto-char (point-max)) (insert "${String(index)} unsaved\\n") (auto-save-mode 1) (do-auto-save t))`;
      execFileSync("emacs", ["-Q", "--batch", "--eval", lisp], { stdio: "ignore" });
      return { ...loss, expected: Buffer.from(`one\n${String(index)} unsaved\n`) };
    },
  },
  {
    name: "VS Code history (by its format)",
    make: async (field, index) => {
      const loss = await plain(field, `code-${String(index)}.txt`, textOf(index));
      const folder = field.at(`home/.config/Code/User/History/h${String(index)}`);
      await mkdir(folder, { recursive: true });
      await cp(loss.file, `${folder}/aaaa.txt`);
      const entries = [{ id: "aaaa.txt", timestamp: Date.now() }];
      await writeFile(
        `${folder}/entries.json`,
        JSON.stringify({ version: 1, resource: `file://${loss.file}`, entries }),
      );
      return loss;
    },
  },
  {
    name: "package (dpkg)",
    missing: needs("dpkg", "dpkg-deb", "md5sum") ?? needsRoot(),
    chain: ({ folder }) => [{ strategy: "package_manager", parameters: { root: folder.at("data") } }],
    open: async ({ at, cases }) => {
      const names = Array.from({ length: cases }, (_, index) => [`/usr/share/bench/f${String(index)}`, textOf(index)]);
      const files = Object.fromEntries(names) as Record<string, string>;
      new DebianRoot(at("data"), at("build")).install({ name: "hf-bench", version: "1.0", files });
      await Promise.resolve();
    },
    make: async (field, index) => await existing(field, `usr/share/bench/f${String(index)}`, textOf(index)),
  },
  {
    name: "package (rpm)",
    missing: needs("rpm", "rpmbuild", "rpm2cpio") ?? needsRoot(),
    chain: ({ folder }) => [{ strategy: "package_manager", parameters: { root: folder.at("data") } }],
    open: async ({ at, cases }) => {
      const names = Array.from({ length: cases }, (_, index) => [`/usr/share/bench/f${String(index)}`, textOf(index)]);
      const files = Object.fromEntries(names) as Record<string, string>;
      await mkdir(at("build"), { recursive: true });
      new RpmRoot(at("data"), at("build")).install({ name: "hf-bench", version: "1.0", files });
    },
    make: async (field, index) => await existing(field, `usr/share/bench/f${String(index)}`, textOf(index)),
  },
  {
    name: "the same content elsewhere",
    make: async (field, index) => {
      const loss = await plain(field, `one-${String(index)}`, textOf(index));
      await plain(field, `two-${String(index)}`, textOf(index));
      return loss;
    },
  },
  {
    name: "another name of the inode",
    make: async (field, index) => {
      const loss = await plain(field, `name-${String(index)}`, textOf(index));
      await link(loss.file, field.at(`data/other-${String(index)}`));
      field.rig.register(pathFromText(field.at(`data/other-${String(index)}`)));
      return loss;
    },
  },
  {
    name: "SQLite write-ahead log",
    missing: needs("sqlite3"),
    make: async (field, index) => {
      const file = field.at(`data/live-${String(index)}.db`);
      makeLiveDatabase(
        file,
        "",
        `create table t(x); insert into t values (hex(randomblob(${String(100 + index * 500)})));`,
      );
      const whole = field.at(`whole-${String(index)}.db`);
      await cp(file, whole);
      await cp(`${file}-wal`, `${whole}-wal`);
      execFileSync("sqlite3", [whole, "pragma wal_checkpoint(truncate);"], { stdio: "ignore" });
      const expected = execFileSync("cat", [whole]);
      return { path: field.rig.register(pathFromText(file)), file, expected };
    },
  },
  {
    name: "btrfs snapshot",
    missing: needs("mkfs.btrfs", "btrfs") ?? needsRoot() ?? (hasBtrfs() ? undefined : "no btrfs in this kernel"),
    open: async ({ at, cases, defer }) => {
      const disk = BtrfsDisk.make(at("btrfs.img"), at("data/disk"));
      defer(() => disk[Symbol.asyncDispose]());
      const home = disk.subvolume("home");
      for (let index = 0; index < cases; index += 1) await writeFile(`${home}/f${String(index)}`, textOf(index));
      disk.snapshot(home, 1);
    },
    make: async (field, index) => await existing(field, `disk/home/f${String(index)}`, textOf(index)),
  },
  {
    name: "logs by a recipe",
    chain: ({ folder, policy }) => [
      ...policy.chain,
      {
        strategy: "reconstruct_from_logs",
        parameters: { log_dir: folder.at("logs"), output: { shape: "record" } },
      },
    ],
    make: async (field, index) => {
      const loss = await plain(field, `logged-${String(index)}`, textOf(index));
      await mkdir(field.at("logs"), { recursive: true });
      await appendFile(field.at("logs/app.jsonl"), `${JSON.stringify({ path: loss.file, content: textOf(index) })}\n`);
      return loss;
    },
  },
];

function linkSource(name: string, kind: LinkKind): Source {
  return {
    name,
    // Before the descriptors, which are held, too.
    chain: ({ policy }) => [
      ...["pinned_links", "pinned"].map((strategy) => ({ strategy, parameters: {} })),
      ...policy.chain,
    ],
    open: (field) => openLinks(field, kind),
    make: async (field, index) => {
      const loss = await plain(field, `linked-${String(index)}`, textOf(index));
      field.rig.bus.emit("commit.durable", { source: "data", paths: [loss.path], oldestSeenAtMs: 0 });
      await LINKS.get(field)?.settled();
      return loss;
    },
  };
}

const LINKS = new WeakMap<Field, LinkPins>();

async function openLinks(field: Field, kind: LinkKind): Promise<void> {
  const nodeOf = (path: BytePath): FileNode | undefined => field.rig.versions.versions(path)[0]?.node;
  const links = await LinkPins.open({
    ...{ clock: systemClock, observer: silentObserver, bus: field.rig.bus, criticalSources: () => ["data"] },
    // eslint-disable-next-line @typescript-eslint/require-await -- a port of asynchronous readers
    filesOf: async function* () {
      yield* [];
    },
    nodeOf: (path) => Promise.resolve(nodeOf(path)),
    stateDir: field.at("state"),
    kinds: new Set([kind]),
  });
  LINKS.set(field, links);
  field.useLinks(links);
  field.defer(() => links[Symbol.asyncDispose]());
}

function gitSource(name: string, lay: (folder: string, file: string) => Promise<void>): Source {
  return {
    name,
    missing: needs("git"),
    open: async ({ at }) => {
      await mkdir(at("data"), { recursive: true });
      await git(at("data"), "init", "-q");
      await git(at("data"), "commit", "-q", "--allow-empty", "-m", "first");
    },
    make: async (field, index) => {
      const file = `file-${String(index)}.txt`;
      const loss = await plain(field, file, textOf(index));
      await lay(field.at("data"), file);
      return loss;
    },
  };
}

/** A new protected file whose stored bytes cannot be read any more. */
async function plain(field: Field, name: string, content: string): Promise<Loss> {
  await writeFile(field.at(`data/${name}`), content);
  return await existing(field, name, content);
}

async function existing(field: Field, name: string, content: string): Promise<Loss> {
  const file = field.at(`data/${name}`);
  await mkdir(dirname(file), { recursive: true });
  const path = field.rig.register(pathFromText(file));
  return { path, file, expected: Buffer.from(content) };
}

function textOf(index: number): string {
  return `${"a line that nobody wants to lose\n".repeat(3 + index * 7)}${String(index)}\n`;
}

function needs(...programs: string[]): string | undefined {
  const missing = programs.filter((program) => !hasProgram(program));
  return missing.length === 0 ? undefined : `not installed: ${missing.join(", ")}`;
}

function needsRoot(): string | undefined {
  return process.getuid?.() === 0 ? undefined : "needs root";
}

/** Removes the file of a loss, whatever its trace did to it. */
export async function lose(loss: Loss): Promise<void> {
  await rm(loss.file, { force: true });
}
