/**
 * A disk that remembers what was asked of it, and can show itself as a power cut would leave it at any moment: names
 * whose folder was not synced may be missing, bytes that were not synced may be missing in pages of 4 KiB, in any
 * order, or cut off with zeros behind. `RecordingIo` writes the history down, `CrashDisk` replays a part of it.
 */
import { type Dirent, mkdirSync, type Stats, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, sep } from "node:path";
import { type FileIo, type IoFile, type IoReader, type IoReaderNow, systemIo } from "../../src/storage/file-io.js";

/** One call of the file port, or a note of the test. `began`: only what came before that event is covered by a sync. */
export type DiskEvent<Note> =
  | { readonly op: "create"; readonly path: string; readonly file: number }
  | { readonly op: "write"; readonly file: number; readonly offsetBytes: number; readonly data: Buffer }
  | { readonly op: "truncate"; readonly file: number; readonly sizeBytes: number }
  | { readonly op: "synced"; readonly file: number; readonly began: number }
  | { readonly op: "link" | "rename"; readonly from: string; readonly to: string }
  | { readonly op: "unlink"; readonly path: string }
  | { readonly op: "makeFolder"; readonly path: string }
  | { readonly op: "folderSynced"; readonly path: string; readonly began: number }
  | { readonly op: "note"; readonly note: Note };

/** The real file system, with every change of names and bytes written down in order. */
export class RecordingIo<Note> implements FileIo {
  // Reading leaves nothing behind.
  readonly open = (path: string): Promise<IoReader> => systemIo.open(path);
  readonly openNow = (path: string): IoReaderNow => systemIo.openNow(path);
  readonly list = (path: string): Promise<Dirent[]> => systemIo.list(path);
  readonly stat = (path: string): Promise<Stats> => systemIo.stat(path);
  readonly events: DiskEvent<Note>[] = [];
  #nextFile = 0;

  note(note: Note): void {
    this.events.push({ op: "note", note });
  }

  async create(path: string): Promise<IoFile> {
    const file = await systemIo.create(path);
    const number = this.#nextFile;
    this.#nextFile += 1;
    this.events.push({ op: "create", path, file: number });
    return new RecordedFile(this.events, file, number);
  }

  async rename(from: string, to: string): Promise<void> {
    this.events.push({ op: "rename", from, to });
    await systemIo.rename(from, to);
  }

  async link(from: string, to: string): Promise<void> {
    await systemIo.link(from, to);
    this.events.push({ op: "link", from, to });
  }

  async unlink(path: string): Promise<void> {
    await systemIo.unlink(path);
    this.events.push({ op: "unlink", path });
  }

  async makeFolder(path: string): Promise<boolean> {
    const made = await systemIo.makeFolder(path);
    if (made) this.events.push({ op: "makeFolder", path });
    return made;
  }

  async syncFolder(path: string): Promise<void> {
    const began = this.events.length;
    await systemIo.syncFolder(path);
    this.events.push({ op: "folderSynced", path, began });
  }
}

class RecordedFile<Note> implements IoFile {
  readonly #events: DiskEvent<Note>[];
  readonly #inner: IoFile;
  readonly #file: number;

  constructor(events: DiskEvent<Note>[], inner: IoFile, file: number) {
    this.#events = events;
    this.#inner = inner;
    this.#file = file;
  }

  async write(parts: readonly Uint8Array[], offsetBytes: number): Promise<void> {
    this.#events.push({ op: "write", file: this.#file, offsetBytes, data: Buffer.concat(parts) });
    await this.#inner.write(parts, offsetBytes);
  }

  async datasync(): Promise<void> {
    const began = this.#events.length;
    await this.#inner.datasync();
    this.#events.push({ op: "synced", file: this.#file, began });
  }

  async sync(): Promise<void> {
    const began = this.#events.length;
    await this.#inner.sync();
    this.#events.push({ op: "synced", file: this.#file, began });
  }

  async truncate(sizeBytes: number): Promise<void> {
    this.#events.push({ op: "truncate", file: this.#file, sizeBytes });
    await this.#inner.truncate(sizeBytes);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }
}

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;

/** What of the changes that were not synced is found after the cut. `random` gives numbers from 0 to below 1. */
export interface Survival {
  readonly name: string;
  keepsName(random: () => number): boolean;
  /** The bytes of the file when a write of `data` at the offset was under way or not synced. */
  write(content: Buffer, write: FileWrite, random: () => number): Buffer;
}

interface FileWrite {
  readonly offsetBytes: number;
  readonly data: Buffer;
  /** No other write to the file follows. */
  readonly isLast: boolean;
}

/** The ways in which what was not synced survives. `kept` is what a killed process leaves. */
export const SURVIVALS: readonly Survival[] = [
  {
    name: "kept",
    keepsName: () => true,
    write: (content, { offsetBytes, data }) => overwrite(content, offsetBytes, data),
  },
  { name: "lost", keepsName: () => false, write: (content) => content },
  {
    name: "reordered",
    keepsName: (random) => random() < 0.5,
    write: (content, { offsetBytes, data }, random) => {
      let result = content;
      for (let at = 0; at < data.length;) {
        const end = Math.min(data.length, at + PAGE_BYTES - ((offsetBytes + at) % PAGE_BYTES));
        if (random() < 0.5) result = overwrite(result, offsetBytes + at, data.subarray(at, end));
        at = end;
      }
      return result;
    },
  },
  {
    name: "torn",
    keepsName: () => true,
    write: (content, { offsetBytes, data, isLast }, random) => {
      if (!isLast) return overwrite(content, offsetBytes, data);
      const unit = random() < 0.5 ? PAGE_BYTES : SECTOR_BYTES;
      const kept = Math.min(data.length, Math.floor((random() * data.length) / unit) * unit);
      const result = overwrite(content, offsetBytes, data.subarray(0, kept));
      if (random() < 0.5) return result;
      // The new size reached the disk, the bytes did not.
      return overwrite(result, offsetBytes + kept, Buffer.alloc(data.length - kept));
    },
  },
];

function overwrite(content: Buffer, offsetBytes: number, data: Buffer): Buffer {
  const result = Buffer.alloc(Math.max(content.length, offsetBytes + data.length));
  content.copy(result);
  data.copy(result, offsetBytes);
  return result;
}

interface FileNode {
  durable: Buffer;
  pending: { readonly index: number; readonly offsetBytes: number; readonly data: Buffer | undefined }[];
}

interface FolderNode {
  readonly durable: Map<string, Node>;
  pending: { readonly index: number; readonly name: string; readonly node: Node | undefined }[];
}

type Node = FileNode | FolderNode;

/** The state of a folder tree after a part of a history: what is durable, and what only might be. */
export class CrashDisk<Note> {
  readonly #root: string;
  readonly #tree: FolderNode = { durable: new Map(), pending: [] };
  readonly #files = new Map<number, FileNode>();
  #index = 0;

  /** The tree below `root` was empty and durable when the history began. */
  constructor(root: string) {
    this.#root = root;
  }

  apply(event: DiskEvent<Note>): void {
    switch (event.op) {
      case "create":
        this.#files.set(event.file, { durable: Buffer.alloc(0), pending: [] });
        this.#setName(event.path, this.#files.get(event.file));
        break;
      case "write":
        this.#file(event.file).pending.push({ index: this.#index, offsetBytes: event.offsetBytes, data: event.data });
        break;
      case "truncate":
        this.#file(event.file).pending.push({ index: this.#index, offsetBytes: event.sizeBytes, data: undefined });
        break;
      case "synced":
        settleFile(this.#file(event.file), event.began);
        break;
      case "link":
      case "rename":
        this.#setName(event.to, this.#find(event.from));
        if (event.op === "rename") this.#setName(event.from, undefined);
        break;
      case "unlink":
        this.#setName(event.path, undefined);
        break;
      case "makeFolder":
        if (event.path !== this.#root) this.#setName(event.path, { durable: new Map(), pending: [] });
        break;
      case "folderSynced":
        if (this.#holds(event.path)) settleFolder(this.#folder(event.path), event.began);
        break;
      case "note":
        break;
    }
    this.#index += 1;
  }

  /** Files (content) and folders (undefined) as they are found after a cut at this moment, by relative path. */
  after(survival: Survival, random: () => number): Map<string, Buffer | undefined> {
    const found = new Map<string, Buffer | undefined>();
    collect(this.#tree, "", found, { survival, random });
    return found;
  }

  #holds(path: string): boolean {
    return path === this.#root || path.startsWith(`${this.#root}${sep}`);
  }

  #setName(path: string, node: Node | undefined): void {
    if (!this.#holds(path)) return;
    this.#folder(dirname(path)).pending.push({ index: this.#index, name: basename(path), node });
  }

  #file(number: number): FileNode {
    const file = this.#files.get(number);
    if (file === undefined) throw new Error("a write to a file that was never created");
    return file;
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#tree;
    const way = relative(this.#root, path);
    for (const name of way === "" ? [] : way.split(sep)) {
      if (node === undefined || !("pending" in node) || !(node.durable instanceof Map)) return undefined;
      node = namesNow(node as FolderNode).get(name);
    }
    return node;
  }

  #folder(path: string): FolderNode {
    const node = this.#find(path);
    if (node === undefined || !isFolder(node)) throw new Error(`there is no folder ${path}`);
    return node;
  }
}

function isFolder(node: Node): node is FolderNode {
  return node.durable instanceof Map;
}

function namesNow(folder: FolderNode): Map<string, Node> {
  const names = new Map(folder.durable);
  for (const { name, node } of folder.pending) setOrDelete(names, name, node);
  return names;
}

function setOrDelete(names: Map<string, Node>, name: string, node: Node | undefined): void {
  if (node === undefined) names.delete(name);
  else names.set(name, node);
}

function settleFolder(folder: FolderNode, began: number): void {
  for (const { index, name, node } of folder.pending) if (index < began) setOrDelete(folder.durable, name, node);
  folder.pending = folder.pending.filter(({ index }) => index >= began);
}

function settleFile(file: FileNode, began: number): void {
  for (const { index, offsetBytes, data } of file.pending) {
    if (index >= began) continue;
    file.durable = data === undefined ? resized(file.durable, offsetBytes) : overwrite(file.durable, offsetBytes, data);
  }
  file.pending = file.pending.filter(({ index }) => index >= began);
}

function resized(content: Buffer, sizeBytes: number): Buffer {
  return overwrite(Buffer.alloc(sizeBytes), 0, content.subarray(0, sizeBytes));
}

interface Cut {
  readonly survival: Survival;
  readonly random: () => number;
}

function collect(folder: FolderNode, at: string, found: Map<string, Buffer | undefined>, cut: Cut): void {
  const names = new Map(folder.durable);
  for (const { name, node } of folder.pending) {
    if (cut.survival.keepsName(cut.random)) setOrDelete(names, name, node);
  }
  for (const [name, node] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const path = at === "" ? name : `${at}/${name}`;
    found.set(path, isFolder(node) ? undefined : contentAfter(node, cut));
    if (isFolder(node)) collect(node, path, found, cut);
  }
}

function contentAfter(file: FileNode, { survival, random }: Cut): Buffer {
  let content = file.durable;
  for (const [at, { offsetBytes, data }] of file.pending.entries()) {
    if (data !== undefined) {
      content = survival.write(content, { offsetBytes, data, isLast: at === file.pending.length - 1 }, random);
    } else if (survival.keepsName(random)) content = resized(content, offsetBytes);
  }
  return content;
}

/** Writes a found tree below a folder that must be new. */
export function writeTree(target: string, found: ReadonlyMap<string, Buffer | undefined>): void {
  mkdirSync(target, { recursive: true });
  for (const [path, content] of found) {
    if (content === undefined) mkdirSync(join(target, path));
    else writeFileSync(join(target, path), content, { mode: 0o600 });
  }
}

/** Repeatable numbers from 0 to below 1 (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
