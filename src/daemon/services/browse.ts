/** Backups as file systems, over the API: what `holdfast mount` and `holdfast serve webdav` read. */
import type { BrowseService, ContentHead, FolderRequest, NodeDocument } from "../../api/browse-service.js";
import { HoldfastError, hasCode } from "../../base/errors.js";
import { pathText } from "../../base/paths.js";
import { type FolderEntry, backupFolder, backupNode, contentRange } from "../../engine/browse.js";
import type { FileNode } from "../../engine/types.js";
import { octalMode } from "../documents.js";
import type { Parts } from "../parts.js";

/** Files up to this size come in bulk, bytes. */
const SMALL_BYTES_MAX = 256 * 2 ** 10;
/** One answer of `contents` ends after this many bytes. */
const CONTENTS_BYTES_MAX = 4 * 2 ** 20;

export function browseService({ repository }: Parts): BrowseService {
  const wholeId = async (id: string): Promise<string> => (await repository.backup(id)).backup_id;
  return {
    async *folder(id, request, signal): AsyncIterable<NodeDocument> {
      const query = folderQuery(request);
      for await (const entry of backupFolder(repository, await wholeId(id), query, signal)) yield nodeDocument(entry);
    },
    async range(id, path, { offset, length }, signal) {
      const backupId = await wholeId(id);
      const node = await backupNode(repository, backupId, path, signal);
      if (node?.kind !== "file") {
        throw new HoldfastError("VERSION_NOT_FOUND", `${pathText(path)} is no file in ${backupId}`);
      }
      return contentRange(repository, node, { offsetBytes: offset, endBytes: offset + length }, signal);
    },
    async *contents(id, request, count, signal): AsyncIterable<Buffer> {
      let [names, bytes] = [0, 0];
      for await (const { node } of backupFolder(repository, await wholeId(id), folderQuery(request), signal)) {
        if (node !== undefined && isSmallFile(node)) {
          const content = await wholeContent(node, (part) => contentRange(repository, part, WHOLE, signal));
          if (content !== undefined) yield content;
          bytes += node.stat.sizeBytes;
        }
        names += 1;
        if (names >= count || bytes >= CONTENTS_BYTES_MAX) return;
      }
    },
  };
}

const WHOLE = { offsetBytes: 0, endBytes: Number.POSITIVE_INFINITY };

function folderQuery(request: FolderRequest): Parameters<typeof backupFolder>[2] {
  return {
    folder: request.folder,
    ...(request.from_name === undefined ? {} : { fromName: request.from_name }),
    ...(request.source === undefined ? {} : { source: request.source }),
  };
}

function isSmallFile(node: FileNode): boolean {
  return node.kind === "file" && node.stat.sizeBytes <= SMALL_BYTES_MAX;
}

/** Head and bytes of one file; undefined when it is damaged: who asks for that file alone is told how. */
async function wholeContent(
  node: FileNode,
  read: (node: FileNode) => AsyncIterable<Buffer>,
): Promise<Buffer | undefined> {
  const parts: Buffer[] = [];
  try {
    for await (const part of read(node)) parts.push(part);
  } catch (error) {
    if (hasCode(error, "RECORD_DAMAGED") || hasCode(error, "CHUNK_MISSING")) return undefined;
    throw error;
  }
  const content = Buffer.concat(parts);
  const head = JSON.stringify({ sha256: node.sha256 ?? "", size_bytes: content.length } satisfies ContentHead);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  return Buffer.concat([length, Buffer.from(head), content]);
}

/** A name as the API shows it. */
export function nodeDocument({ name, source, node }: FolderEntry): NodeDocument {
  const named = { ...nameFields(name), source };
  if (node === undefined) return { ...named, ...IMPLIED };
  return {
    ...named,
    kind: node.kind,
    size_bytes: node.stat.sizeBytes,
    mode: octalMode(node.mode),
    uid: node.uid,
    gid: node.gid,
    links: node.linkCount,
    inode: `${node.stat.dev}:${node.stat.ino}`,
    mtime_ns: String(node.stat.mtimeNs),
    ctime_ns: String(node.stat.ctimeNs),
    ...(node.sha256 === undefined ? {} : { sha256: node.sha256 }),
    ...(node.linkTarget === undefined ? {} : { link_target_b64: base64(node.linkTarget) }),
    ...(node.device === undefined ? {} : { device: node.device }),
    ...(node.xattrs === undefined ? {} : { xattrs: [...node.xattrs].map(xattrDocument) }),
  };
}

const IMPLIED = {
  kind: "folder",
  size_bytes: 0,
  mode: "0755",
  uid: 0,
  gid: 0,
  links: 2,
  inode: "0:0",
  mtime_ns: "0",
  ctime_ns: "0",
  implied: true,
} as const;

function nameFields(name: string): { name: string; name_b64?: string } {
  const bytes = Buffer.from(name, "latin1");
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? { name: text } : { name: text, name_b64: base64(name) };
}

function xattrDocument([name, value]: readonly [string, Uint8Array]): { name_b64: string; value_b64: string } {
  return { name_b64: base64(name), value_b64: Buffer.from(value).toString("base64") };
}

function base64(latin1: string): string {
  return Buffer.from(latin1, "latin1").toString("base64");
}
