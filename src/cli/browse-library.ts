/** The backups of a repository for `mount` and `serve webdav`, asked for over the API: of a daemon or of this process. */
import type { ApiClient } from "../api/client.js";
import type { ContentHead, NodeDocument } from "../api/browse-service.js";
import { HoldfastError } from "../base/errors.js";
import { type BytePath, pathBytes } from "../base/paths.js";
import {
  BROWSE_KINDS,
  type BackupLibrary,
  type BrowseBackup,
  type BrowseFile,
  type BrowseNode,
  type FileRun,
} from "../browse/library.js";
import type { Manifest } from "../engine/types.js";
import { queryText } from "./command.js";

/** Length of a head in the answer of `contents`, bytes; a longer one is none of ours. */
const HEAD_BYTES_MAX = 4096;

/** The library over a client. */
export function browseLibrary(api: ApiClient): BackupLibrary {
  return {
    async backups(signal): Promise<readonly BrowseBackup[]> {
      const backups: BrowseBackup[] = [];
      for await (const manifest of api.lines<Manifest>("/backups", signal)) backups.push(browseBackup(manifest));
      return backups.sort((a, b) => a.timeMs - b.timeMs);
    },
    async folder(backupId, folder, signal): Promise<readonly BrowseNode[]> {
      const nodes: BrowseNode[] = [];
      const query = queryText({ path_b64: base64(folder) });
      for await (const node of api.lines<NodeDocument>(`/backups/${backupId}/folder${query}`, signal)) {
        nodes.push(browseNode(node));
      }
      return nodes;
    },
    async *read(file: BrowseFile, offsetBytes, lengthBytes, signal): AsyncIterable<Buffer> {
      const endBytes = offsetBytes + lengthBytes;
      let atBytes = offsetBytes;
      for (let beganBytes = -1; atBytes < endBytes && atBytes > beganBytes;) {
        beganBytes = atBytes;
        try {
          for await (const part of await rangeOf(api, file, { offset: atBytes, length: endBytes - atBytes }, signal)) {
            atBytes += part.length;
            yield part;
          }
        } catch (error) {
          // An answer that breaks off midway cannot say why: asked again from there, it is told as a whole.
          if (error instanceof HoldfastError || signal.aborted || atBytes === beganBytes) throw error;
        }
      }
    },
    async *readMany({ backupId, folder, source, firstName, count }: FileRun, signal) {
      const from = Buffer.from(firstName, "latin1").toString("base64");
      const query = queryText({ path_b64: base64(folder), from_b64: from, source, count });
      yield* framedFiles(await api.bytes(`/backups/${backupId}/contents${query}`, signal));
    },
  };
}

async function rangeOf(
  api: ApiClient,
  { backupId, path }: BrowseFile,
  range: { readonly offset: number; readonly length: number },
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> {
  const query = queryText({ path_b64: base64(path), ...range });
  return await api.bytes(`/backups/${backupId}/range${query}`, signal);
}

function browseBackup(manifest: Manifest): BrowseBackup {
  const sum = (field: "total_size_bytes" | "files_total"): number =>
    manifest.sources.reduce((total, source) => total + source[field], 0);
  return {
    id: manifest.backup_id,
    timeMs: Date.parse(manifest.timestamp),
    sizeBytes: sum("total_size_bytes"),
    fileCount: sum("files_total"),
  };
}

function browseNode(node: NodeDocument): BrowseNode {
  const kind = BROWSE_KINDS.find((each) => each === node.kind);
  if (kind === undefined) throw new HoldfastError("UNSUPPORTED", `a daemon of another version knows a "${node.kind}"`);
  const { xattrs, device, sha256, link_target_b64: target } = node;
  return {
    name: node.name_b64 === undefined ? latin1(Buffer.from(node.name, "utf8")) : fromBase64(node.name_b64),
    source: node.source,
    kind,
    sizeBytes: node.size_bytes,
    mode: Number.parseInt(node.mode, 8),
    uid: node.uid,
    gid: node.gid,
    linkCount: node.links,
    inode: node.inode,
    mtimeNs: BigInt(node.mtime_ns),
    ctimeNs: BigInt(node.ctime_ns),
    ...(sha256 === undefined ? {} : { sha256 }),
    ...(target === undefined ? {} : { linkTarget: fromBase64(target) }),
    ...(device === undefined ? {} : { device }),
    ...(xattrs === undefined ? {} : { xattrs: new Map(xattrs.map(attribute)) }),
  };
}

function attribute({ name_b64: name, value_b64: value }: { name_b64: string; value_b64: string }): [string, Buffer] {
  return [fromBase64(name), Buffer.from(value, "base64")];
}

/** Takes the answer of `contents` apart: length of the head (4 bytes, LE), head, content, and again. */
async function* framedFiles(
  parts: AsyncIterable<Buffer>,
): AsyncGenerator<{ readonly sha256: string; readonly bytes: Buffer }> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const part of parts) {
    rest = rest.length === 0 ? part : Buffer.concat([rest, part]);
    for (let frame = takeFrame(rest); frame !== undefined; frame = takeFrame(rest)) {
      yield { sha256: frame.head.sha256, bytes: Buffer.from(frame.content) };
      rest = rest.subarray(frame.sizeBytes);
    }
  }
}

function takeFrame(bytes: Buffer): { head: ContentHead; content: Buffer; sizeBytes: number } | undefined {
  if (bytes.length < 4) return undefined;
  const headBytes = bytes.readUInt32LE(0);
  if (headBytes > HEAD_BYTES_MAX) throw new HoldfastError("INTERNAL", "the daemon's answer holds no files");
  if (bytes.length < 4 + headBytes) return undefined;
  const head = JSON.parse(bytes.toString("utf8", 4, 4 + headBytes)) as ContentHead;
  const sizeBytes = 4 + headBytes + head.size_bytes;
  if (bytes.length < sizeBytes) return undefined;
  return { head, content: bytes.subarray(4 + headBytes, sizeBytes), sizeBytes };
}

function base64(path: BytePath): string {
  return pathBytes(path).toString("base64");
}

function fromBase64(text: string): string {
  return latin1(Buffer.from(text, "base64"));
}

function latin1(bytes: Buffer): string {
  return bytes.toString("latin1");
}
