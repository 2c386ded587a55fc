/**
 * All backups as one read-only file system: `/<backup id>/<absolute path>`, and `latest`, a symbolic link to the newest.
 * Answers the kernel's requests; everything but the list of backups is immutable, so the kernel may keep it.
 */
import { constants } from "node:os";
import { hasCode } from "../../base/errors.js";
import { type BytePath, joinPath } from "../../base/paths.js";
import type { BackupTree } from "../backup-tree.js";
import type { ContentCache } from "../content-cache.js";
import { type FileRuns, SMALL_BYTES_MAX } from "../file-runs.js";
import type { BrowseBackup, BrowseFile, BrowseKind, BrowseNode, FileRun } from "../library.js";
import type { FuseAnswer, FuseHandler } from "./connection.js";
import { Inodes, type Place, ROOT_NODE_ID } from "./inodes.js";
import {
  type Attributes,
  DirectoryPage,
  type EntryAnswer,
  type FuseRequest,
  OPCODE,
  OPEN_CACHE_DIR,
  OPEN_KEEP_CACHE,
  absentAnswer,
  attributesAnswer,
  entryAnswer,
  nameIn,
  openAnswer,
  sizeAnswer,
  statfsAnswer,
} from "./protocol.js";

/** How long the kernel may keep what it was told: of a backup a year, of the list of backups a moment. */
const KEPT_SECONDS = 365 * 86_400;
const LIST_KEPT_SECONDS = 1;
const NS_PER_MS = 1_000_000n;

const { ENOENT, ENOSYS, EIO, ENOTDIR, EINVAL, EACCES, ENODATA, ERANGE, ESTALE } = constants.errno;
const ROOT = "/" as BytePath;
const LATEST = "latest";

export interface FileSystemOptions {
  readonly tree: BackupTree;
  readonly cache: ContentCache;
  readonly runs: FileRuns;
  /** Who owns the root folder. */
  readonly uid: number;
  readonly gid: number;
  /** Time of the root folder, wall ms. */
  readonly startedMs: number;
  /** Told of what could not be read: the program that asked only learns "input/output error". */
  readonly onTrouble: (place: Place, error: unknown) => void;
}

export class BackupFileSystem implements FuseHandler {
  readonly #options: FileSystemOptions;
  readonly #inodes: Inodes;

  constructor(options: FileSystemOptions) {
    this.#options = options;
    const owner = { uid: options.uid, gid: options.gid };
    this.#inodes = new Inodes({ backupId: "", path: ROOT, node: madeNode("", "folder", options.startedMs, owner) });
  }

  /** Places that the kernel refers to. */
  get placeCount(): number {
    return this.#inodes.size;
  }

  forget(nodeId: number, count: number): void {
    this.#inodes.forget(nodeId, count);
  }

  handle(request: FuseRequest): Promise<FuseAnswer> | FuseAnswer {
    const place = this.#inodes.place(request.nodeId);
    if (request.opcode === OPCODE.statfs) return this.#guarded(place, () => this.#statfs());
    if (place === undefined) return ESTALE;
    return this.#known(place, request) ?? this.#guarded(place, () => this.#askFor(place, request));
  }

  /** Answers that need nothing but the place itself. */
  #known(place: Place, { opcode, body, nodeId }: FuseRequest): FuseAnswer | undefined {
    switch (opcode) {
      case OPCODE.getattr:
        return [attributesAnswer(this.#attributes(place, nodeId), validSeconds(place))];
      case OPCODE.open:
        return [openAnswer(OPEN_KEEP_CACHE)];
      case OPCODE.opendir:
        return [openAnswer(place.backupId === "" ? 0 : OPEN_KEEP_CACHE | OPEN_CACHE_DIR)];
      case OPCODE.release:
      case OPCODE.releasedir:
      case OPCODE.flush:
      case OPCODE.access:
        return [];
      case OPCODE.listxattr:
        return this.#listXattrs(place, body);
      case OPCODE.getxattr:
        return this.#getXattr(place, body);
      default:
        return undefined;
    }
  }

  async #askFor(place: Place, request: FuseRequest): Promise<FuseAnswer> {
    const { opcode, body } = request;
    switch (opcode) {
      case OPCODE.readlink:
        return await this.#readlink(place);
      case OPCODE.lookup:
        return await this.#lookup(place, nameIn(body));
      case OPCODE.read:
        return await this.#read(place, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16));
      case OPCODE.readdir:
      case OPCODE.readdirplus:
        return await this.#readdir(place, request);
      default:
        return ENOSYS;
    }
  }

  /** Failures become the error number that fits; what is damaged or out of reach is told to the person. */
  async #guarded(place: Place | undefined, work: () => Promise<FuseAnswer>): Promise<FuseAnswer> {
    try {
      return await work();
    } catch (error) {
      if (hasCode(error, "BACKUP_NOT_FOUND")) return ESTALE; // rotation removed it meanwhile
      if (hasCode(error, "VERSION_NOT_FOUND")) return ENOENT;
      if (place !== undefined) this.#options.onTrouble(place, error);
      return hasCode(error, "PERMISSION_DENIED") ? EACCES : EIO;
    }
  }

  // --- names ---------------------------------------------------------------------------------------------------------

  async #lookup(folder: Place, name: string): Promise<FuseAnswer> {
    if (folder.node.kind !== "folder") return ENOTDIR;
    const place = folder.backupId === "" ? await this.#backupPlace(name) : await this.#entryPlace(folder, name);
    if (place === undefined) return [absentAnswer(folder.backupId === "" ? LIST_KEPT_SECONDS : KEPT_SECONDS)];
    return [entryAnswer(this.#entry(place))];
  }

  async #backupPlace(name: string): Promise<Place | undefined> {
    const backups = await this.#options.tree.backups();
    if (name === LATEST) return latestPlace(backups);
    const backup = backups.find(({ id }) => id === name);
    return backup === undefined ? undefined : backupPlace(backup);
  }

  async #entryPlace(folder: Place, name: string): Promise<Place | undefined> {
    const { nodes, byName } = await this.#options.tree.folder(folder.backupId, folder.path);
    const node = nodes[byName.get(name) ?? -1];
    return node === undefined ? undefined : childPlace(folder, node);
  }

  /** An entry as the kernel keeps it: this counts as a look-up. */
  #entry(place: Place): EntryAnswer {
    const nodeId = this.#inodes.take(place);
    return { nodeId, attributes: this.#attributes(place, nodeId), validSeconds: validSeconds(place) };
  }

  async #children(folder: Place): Promise<Children> {
    if (folder.backupId !== "") {
      return { folder, nodes: (await this.#options.tree.folder(folder.backupId, folder.path)).nodes };
    }
    const backups = await this.#options.tree.backups();
    const latest = latestPlace(backups);
    return [...(latest === undefined ? [] : [latest]), ...backups.map(backupPlace)];
  }

  async #readdir(folder: Place, { body, opcode }: FuseRequest): Promise<FuseAnswer> {
    if (folder.node.kind !== "folder") return ENOTDIR;
    const withEntries = opcode === OPCODE.readdirplus;
    const children = await this.#children(folder);
    const count = "nodes" in children ? children.nodes.length : children.length;
    const page = new DirectoryPage(body.readUInt32LE(16));
    for (let index = Number(body.readBigUInt64LE(8)); index < count + DOTS.length; index += 1) {
      const offset = index + 1;
      const child = placeAt(children, index - DOTS.length);
      const name = child?.node.name ?? DOTS[index] ?? "";
      if (!page.hasRoom(name, withEntries)) break;
      if (child === undefined) {
        // "." and ".." must not count as looked up, and their own number is of no use to anyone
        page.add(
          { inode: this.#numberOf(folder), offset, name, mode: typeBits("folder") },
          withEntries ? null : undefined,
        );
        continue;
      }
      const entry = withEntries ? this.#entry(child) : undefined;
      page.add(
        { inode: entry?.nodeId ?? this.#inodes.numberOf(child), offset, name, mode: typeBits(child.node.kind) },
        entry,
      );
    }
    return [page.bytes];
  }

  // --- what stands there ---------------------------------------------------------------------------------------------

  #attributes(place: Place, inode: number): Attributes {
    const { node } = place;
    const { major, minor } = node.device ?? { major: 0, minor: 0 };
    return {
      inode,
      sizeBytes: node.kind === "symlink" ? (node.linkTarget ?? "").length : node.sizeBytes,
      mtimeNs: node.mtimeNs,
      ctimeNs: node.ctimeNs,
      mode: typeBits(node.kind) | node.mode,
      linkCount: node.linkCount,
      uid: node.uid,
      gid: node.gid,
      // as the kernel packs device numbers for user space (new_encode_dev)
      device: (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12),
    };
  }

  #numberOf(place: Place): number {
    return place.backupId === "" && place.path === ROOT ? ROOT_NODE_ID : this.#inodes.numberOf(place);
  }

  async #readlink({ backupId, node }: Place): Promise<FuseAnswer> {
    if (node.kind !== "symlink") return EINVAL;
    if (backupId !== "") return [Buffer.from(node.linkTarget ?? "", "latin1")];
    const latest = latestPlace(await this.#options.tree.backups());
    return latest === undefined ? ENOENT : [Buffer.from(latest.node.linkTarget ?? "", "latin1")];
  }

  async #statfs(): Promise<FuseAnswer> {
    const backups = await this.#options.tree.backups();
    const sum = (field: "sizeBytes" | "fileCount"): number =>
      backups.reduce((total, backup) => total + backup[field], 0);
    return [statfsAnswer(sum("sizeBytes"), sum("fileCount"))];
  }

  #listXattrs({ node }: Place, body: Buffer): FuseAnswer {
    const names = [...(node.xattrs?.keys() ?? [])].map((name) => `${name}\0`).join("");
    return sized(Buffer.from(names, "latin1"), body.readUInt32LE(0));
  }

  #getXattr({ node }: Place, body: Buffer): FuseAnswer {
    const value = node.xattrs?.get(nameIn(body, 8));
    return value === undefined ? ENODATA : sized(value, body.readUInt32LE(0));
  }

  // --- content -------------------------------------------------------------------------------------------------------

  async #read(place: Place, offsetBytes: number, lengthBytes: number): Promise<FuseAnswer> {
    const { backupId, path, node } = place;
    if (node.kind !== "file") return EINVAL;
    const file: BrowseFile = {
      backupId,
      path,
      sizeBytes: node.sizeBytes,
      sha256: node.sha256 ?? `${backupId}${path}`,
    };
    const isOneOfMany = node.sizeBytes <= SMALL_BYTES_MAX && this.#options.runs.isFolderRead(file);
    const neighbours = isOneOfMany ? async () => await this.#runAround(file) : undefined;
    return await this.#options.cache.read(file, { offsetBytes, lengthBytes }, neighbours);
  }

  async #runAround(file: BrowseFile): Promise<FileRun | undefined> {
    const { tree, runs } = this.#options;
    return runs.runOf(file, await tree.parentOf(file));
  }
}

const DOTS = [".", ".."] as const;

/** Bits of the kind in a mode, as stat(2) has them. */
const KIND_BITS: Readonly<Record<BrowseKind, number>> = {
  fifo: 0o010000,
  char_device: 0o020000,
  folder: 0o040000,
  block_device: 0o060000,
  file: 0o100000,
  symlink: 0o120000,
};

function typeBits(kind: BrowseKind): number {
  return KIND_BITS[kind];
}

function validSeconds(place: Place): number {
  const isOfList = place.backupId === "" || place.path === ROOT;
  return isOfList ? LIST_KEPT_SECONDS : KEPT_SECONDS;
}

function sized(value: Buffer, roomBytes: number): FuseAnswer {
  if (roomBytes === 0) return [sizeAnswer(value.length)];
  return value.length > roomBytes ? ERANGE : [value];
}

function childPlace(folder: Place, node: BrowseNode): Place {
  return { backupId: folder.backupId, path: joinPath(folder.path, node.name), node };
}

/** What is in a folder; places of entries are made when they are needed, for a folder may be large. */
type Children = readonly Place[] | { readonly folder: Place; readonly nodes: readonly BrowseNode[] };

function placeAt(children: Children, index: number): Place | undefined {
  if (!("nodes" in children)) return children[index];
  const node = children.nodes[index];
  return node === undefined ? undefined : childPlace(children.folder, node);
}

function backupPlace({ id, timeMs }: BrowseBackup): Place {
  return { backupId: id, path: ROOT, node: madeNode(id, "folder", timeMs, SYSTEM) };
}

function latestPlace(backups: readonly BrowseBackup[]): Place | undefined {
  const newest = backups.at(-1);
  if (newest === undefined) return undefined;
  const node = { ...madeNode(LATEST, "symlink", newest.timeMs, SYSTEM), linkTarget: newest.id };
  return { backupId: "", path: `/${LATEST}` as BytePath, node };
}

const SYSTEM = { uid: 0, gid: 0 } as const;

/** A node of the file system's own. */
function madeNode(
  name: string,
  kind: "folder" | "symlink",
  timeMs: number,
  owner: { readonly uid: number; readonly gid: number },
): BrowseNode {
  const timeNs = BigInt(Math.floor(timeMs)) * NS_PER_MS;
  return {
    name,
    source: "",
    kind,
    sizeBytes: 0,
    mode: kind === "folder" ? 0o555 : 0o777,
    ...owner,
    linkCount: kind === "folder" ? 2 : 1,
    inode: "",
    mtimeNs: timeNs,
    ctimeNs: timeNs,
  };
}
