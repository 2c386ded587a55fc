/**
 * Restoring what is no folder: a file is written beside its place under a staging name, given its metadata, and moved
 * into place; links, FIFOs and devices are made likewise. A file that has the right content already is left alone.
 */
import { createHash, randomBytes } from "node:crypto";
import { type BigIntStats, closeSync, constants, fstatSync, fsync, ftruncateSync, read, write } from "node:fs";
import { promisify } from "node:util";
import { type AnchoredFolder, openAnchored } from "../base/anchored.js";
import { STAGING_PREFIX } from "../base/atomic-file.js";
import { deferred } from "../base/concurrency.js";
import { HoldfastError, errnoOf } from "../base/errors.js";
import { type BytePath, nameOf, pathText } from "../base/paths.js";
import { runProgram } from "../base/spawn.js";
import { type MetadataGap, applyToDescriptor, applyToName, kindOf } from "./metadata.js";
import type { ContentSource, RestoreRequest } from "./restore.js";
import type { Entry, FileNode } from "./types.js";

export type RestoredAs = "write" | "replace" | "patch" | "link" | "node";

export interface FileOutcome {
  readonly action: RestoredAs | "skip";
  /** Bytes of content written. */
  readonly bytes: number;
  readonly gaps: readonly MetadataGap[];
}

export interface FileTask {
  readonly entry: Entry;
  readonly place: BytePath;
}

export interface FileRestorer {
  /** Puts one entry into its folder (undefined: a dry run below a missing folder). */
  put(folder: AnchoredFolder | undefined, task: FileTask, signal: AbortSignal): Promise<FileOutcome>;
}

interface FileTarget {
  readonly name: string;
  readonly node: FileNode;
  readonly present: BigIntStats | undefined;
}

/** Where the first name of an inode was restored. */
interface WrittenName {
  readonly folder: BytePath;
  readonly name: string;
}

type Options = Pick<RestoreRequest, "overwrite" | "inPlace" | "dryRun" | "verify" | "sparse">;

const READ_BYTES = 2 ** 20;
const ZERO_BLOCK = Buffer.alloc(4096);
const MKNOD_TIMEOUT_MS = 10_000;
/** Inodes with several names that are remembered within one restore. */
const LINKED_MAX = 1_000_000;
const SKIPPED: FileOutcome = { action: "skip", bytes: 0, gaps: [] };

const readAsync = promisify(read);
const writeAsync = promisify(write);
const fsyncAsync = promisify(fsync);

/** A restorer for one run; it remembers hard links. */
export function fileRestorer(source: ContentSource, options: Options): FileRestorer {
  return new Restorer(source, options);
}

class Restorer implements FileRestorer {
  readonly #source: ContentSource;
  readonly #options: Options;
  /** First restored name of each inode that had several. */
  readonly #linked = new Map<string, Promise<WrittenName | undefined>>();

  constructor(source: ContentSource, options: Options) {
    this.#source = source;
    this.#options = options;
  }

  async put(folder: AnchoredFolder | undefined, task: FileTask, signal: AbortSignal): Promise<FileOutcome> {
    const { node } = task.entry;
    if (node.kind !== "file") return await this.#putNode(folder, task, signal);
    return await this.#putFile(folder, task, signal);
  }

  async #putFile(folder: AnchoredFolder | undefined, task: FileTask, signal: AbortSignal): Promise<FileOutcome> {
    const { node } = task.entry;
    const name = nameOf(task.place);
    const present = folder?.lstat(name);
    const settled = present === undefined ? undefined : await this.#keepPresent(folder, task, present, signal);
    if (settled !== undefined) return settled;
    const action = present === undefined ? "write" : this.#options.inPlace && present.isFile() ? "patch" : "replace";
    if (this.#options.dryRun || folder === undefined) return { action, bytes: node.stat.sizeBytes, gaps: [] };
    if (node.linkCount > 1) return await this.#putShared(folder, { name, node, present }, signal);
    return await this.#putContent(folder, { name, node, present }, signal);
  }

  /** The outcome when what is there may or must stay; undefined when it is to be written. */
  async #keepPresent(
    folder: AnchoredFolder | undefined,
    { entry, place }: FileTask,
    present: BigIntStats,
    signal: AbortSignal,
  ): Promise<FileOutcome | undefined> {
    const { overwrite, dryRun } = this.#options;
    const name = nameOf(place);
    if (present.isDirectory()) throw new HoldfastError("TARGET_EXISTS", `${pathText(place)} is a folder`);
    if (overwrite === "never") return SKIPPED;
    if (overwrite === "always" || folder === undefined) return undefined;
    if (!(await hasContent(folder, name, entry.node, { present, signal }))) return undefined;
    return dryRun ? SKIPPED : { ...SKIPPED, gaps: onlyMetadata(folder, name, entry.node) };
  }

  /** The first name of an inode is written; the others wait for it and become hard links to it. */
  async #putShared(folder: AnchoredFolder, target: FileTarget, signal: AbortSignal): Promise<FileOutcome> {
    const { node, name } = target;
    const key = `${String(node.stat.dev)}:${String(node.stat.ino)}:${node.sha256 ?? ""}`;
    const first = this.#linked.get(key);
    if (first !== undefined) {
      const linked = await putLink(folder, target, await first);
      return linked ?? (await this.#putContent(folder, target, signal));
    }
    const written = deferred<WrittenName | undefined>();
    if (this.#linked.size < LINKED_MAX) this.#linked.set(key, written.promise);
    try {
      const outcome = await this.#putContent(folder, target, signal);
      written.resolve({ folder: folder.path, name });
      return outcome;
    } finally {
      written.resolve(undefined); // after a success it is resolved already
    }
  }

  async #putContent(folder: AnchoredFolder, target: FileTarget, signal: AbortSignal): Promise<FileOutcome> {
    const { name, node, present } = target;
    if (this.#options.inPlace && present?.isFile() === true) return await this.#patch(folder, name, node, signal);
    const gaps = await this.#write(folder, { name, node, replaces: present !== undefined }, signal);
    return { action: present === undefined ? "write" : "replace", bytes: node.stat.sizeBytes, gaps };
  }

  async #write(
    folder: AnchoredFolder,
    target: { readonly name: string; readonly node: FileNode; readonly replaces: boolean },
    signal: AbortSignal,
  ): Promise<readonly MetadataGap[]> {
    const { name, node, replaces } = target;
    const staged = stagingName();
    const fd = folder.openFile(staged, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await this.#writeContent(fd, node, signal);
      const gaps = applyToDescriptor(fd, node);
      // The old content may only go when the new one is sure to stay.
      if (replaces) await fsyncAsync(fd);
      if (this.#options.verify) await verifyContent(fd, node, signal);
      if (!folder.verify()) throw new HoldfastError("TARGET_UNSAFE", `the folder of ${name} was moved meanwhile`);
      if (replaces) folder.rename(staged, folder, name);
      else folder.link(staged, folder, name);
      return gaps;
    } finally {
      closeSync(fd);
      unlinkQuietly(folder, staged);
    }
  }

  async #writeContent(fd: number, node: FileNode, signal: AbortSignal): Promise<void> {
    let offset = 0;
    for await (const bytes of this.#source.readContent(node, signal)) {
      if (this.#options.sparse) await writeSparse(fd, bytes, offset);
      else await writeAll(fd, bytes, offset);
      offset += bytes.length;
    }
    if (this.#options.sparse) ftruncateSync(fd, offset);
    if (offset !== node.stat.sizeBytes) {
      throw new HoldfastError("RECORD_DAMAGED", "the stored content is shorter or longer than the file was");
    }
  }

  /** Writes only what differs into the existing file. The content is proved first: a damaged store changes nothing. */
  async #patch(folder: AnchoredFolder, name: string, node: FileNode, signal: AbortSignal): Promise<FileOutcome> {
    for await (const _bytes of this.#source.readContent(node, signal)) signal.throwIfAborted();
    const fd = folder.openFile(name, constants.O_RDWR);
    try {
      let offset = 0;
      let written = 0;
      for await (const bytes of this.#source.readContent(node, signal)) {
        written += await patchBlocks(fd, bytes, offset);
        offset += bytes.length;
      }
      ftruncateSync(fd, offset);
      const gaps = applyToDescriptor(fd, node);
      await fsyncAsync(fd);
      if (this.#options.verify) await verifyContent(fd, node, signal);
      return { action: "patch", bytes: written, gaps };
    } finally {
      closeSync(fd);
    }
  }

  async #putNode(folder: AnchoredFolder | undefined, task: FileTask, signal: AbortSignal): Promise<FileOutcome> {
    const { node } = task.entry;
    const name = nameOf(task.place);
    const present = folder?.lstat(name);
    if (present !== undefined) {
      if (present.isDirectory()) throw new HoldfastError("TARGET_EXISTS", `${pathText(task.place)} is a folder`);
      if (this.#options.overwrite === "never") return SKIPPED;
      if (this.#options.overwrite === "if-changed" && folder !== undefined && isSameNode(folder, name, node, present)) {
        return SKIPPED;
      }
    }
    if (this.#options.dryRun || folder === undefined) return { action: "node", bytes: 0, gaps: [] };
    const staged = stagingName();
    try {
      await makeNode(folder, staged, node, signal);
      const gaps = applyToName(folder, staged, node);
      if (present === undefined) folder.link(staged, folder, name);
      else folder.rename(staged, folder, name);
      return { action: "node", bytes: 0, gaps };
    } finally {
      unlinkQuietly(folder, staged);
    }
  }
}

/** Makes a hard link to a name that was restored before; undefined when that cannot be. */
async function putLink(
  folder: AnchoredFolder,
  { name, present }: FileTarget,
  first: WrittenName | undefined,
): Promise<FileOutcome | undefined> {
  if (first === undefined) return undefined;
  await using other = openAnchored(first.folder, first.folder);
  const staged = stagingName();
  try {
    other.link(first.name, folder, staged);
    if (present === undefined) folder.link(staged, folder, name);
    else folder.rename(staged, folder, name);
    return { action: "link", bytes: 0, gaps: [] };
  } catch (error) {
    if (errnoOf(error) === "EXDEV" || errnoOf(error) === "EMLINK") return undefined;
    throw error;
  } finally {
    unlinkQuietly(folder, staged);
  }
}

/** True when the file holds the very content already; read and compared, times prove nothing. */
async function hasContent(
  folder: AnchoredFolder,
  name: string,
  node: FileNode,
  { present, signal }: { readonly present: BigIntStats; readonly signal: AbortSignal },
): Promise<boolean> {
  if (!present.isFile() || Number(present.size) !== node.stat.sizeBytes || node.sha256 === undefined) return false;
  const fd = folder.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return (await digestOf(fd, signal)) === node.sha256;
  } finally {
    closeSync(fd);
  }
}

function onlyMetadata(folder: AnchoredFolder, name: string, node: FileNode): readonly MetadataGap[] {
  const fd = folder.openFile(name, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return fstatSync(fd).isFile() ? applyToDescriptor(fd, node) : [];
  } finally {
    closeSync(fd);
  }
}

function isSameNode(folder: AnchoredFolder, name: string, node: FileNode, present: BigIntStats): boolean {
  if (kindOf(present) !== node.kind) return false;
  return node.kind !== "symlink" || folder.readlink(name) === node.linkTarget;
}

async function makeNode(folder: AnchoredFolder, name: string, node: FileNode, signal: AbortSignal): Promise<void> {
  if (node.kind === "symlink") {
    folder.symlink(node.linkTarget ?? "", name);
    return;
  }
  const numbers = node.device === undefined ? [] : [String(node.device.major), String(node.device.minor)];
  const letter = node.kind === "fifo" ? "p" : node.kind === "char_device" ? "c" : "b";
  // Node has no mknod; the program is told the folder as its working directory, the name is ours and plain ASCII.
  const cwd = `/proc/${String(process.pid)}/fd/${String(folder.fd)}`;
  const options = { timeoutMs: MKNOD_TIMEOUT_MS, signal, cwd };
  const { exitCode, stderr } = await runProgram(["mknod", "-m", "600", "--", name, letter, ...numbers], options);
  if (exitCode !== 0) throw new HoldfastError("TARGET_IO", `mknod: ${stderr.trim()}`);
}

async function writeAll(fd: number, bytes: Buffer, offset: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await writeAsync(fd, bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}

/** Leaves aligned blocks of zeros out; the caller sets the length at the end. */
async function writeSparse(fd: number, bytes: Buffer, offset: number): Promise<void> {
  let start = 0;
  for (let at = 0; at < bytes.length; at += ZERO_BLOCK.length) {
    const block = bytes.subarray(at, at + ZERO_BLOCK.length);
    if (!ZERO_BLOCK.subarray(0, block.length).equals(block)) continue;
    if (at > start) await writeAll(fd, bytes.subarray(start, at), offset + start);
    start = at + block.length;
  }
  if (start < bytes.length) await writeAll(fd, bytes.subarray(start), offset + start);
}

/** Writes the 4 KiB blocks that differ; gives the bytes written. */
async function patchBlocks(fd: number, bytes: Buffer, offset: number): Promise<number> {
  const old = Buffer.alloc(bytes.length);
  const { bytesRead } = await readAsync(fd, old, 0, old.length, offset);
  let written = 0;
  for (let at = 0; at < bytes.length; at += ZERO_BLOCK.length) {
    const block = bytes.subarray(at, at + ZERO_BLOCK.length);
    if (at + block.length <= bytesRead && old.subarray(at, at + block.length).equals(block)) continue;
    await writeAll(fd, block, offset + at);
    written += block.length;
  }
  return written;
}

async function verifyContent(fd: number, node: FileNode, signal: AbortSignal): Promise<void> {
  if ((await digestOf(fd, signal)) === node.sha256) return;
  throw new HoldfastError("TARGET_IO", "what was written reads back differently", {
    hint: "Check the target's disk (`dmesg`).",
  });
}

async function digestOf(fd: number, signal: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const window = Buffer.allocUnsafe(READ_BYTES);
  for (let offset = 0; ;) {
    signal.throwIfAborted();
    const { bytesRead } = await readAsync(fd, window, 0, window.length, offset);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(window.subarray(0, bytesRead));
    offset += bytesRead;
  }
}

function stagingName(): string {
  return `${STAGING_PREFIX}restore-${randomBytes(8).toString("hex")}`;
}

function unlinkQuietly(folder: AnchoredFolder, name: string): void {
  try {
    folder.unlink(name);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw error;
  }
}
