/**
 * Whether the bytes of a lost inode still have something of the last good content. What destroys files on purpose
 * overwrites them before it deletes them: the inode is then the lost file itself, and its content is gone all the same.
 */
import { messageOf } from "../base/errors.js";
import type { FileNode } from "../engine/types.js";
import type { VersionReader } from "./ports.js";
import type { LostFile } from "./strategy.js";

/** So much from the beginning of both is compared. */
const HEAD_BYTES = 2 ** 20;
/** Noise agrees with anything in one byte of 256; a file that was appended to or edited in place agrees in most. */
const AGREEING_SHARE_MIN = 0.05;
/** Versions among which the last good one is looked for. */
const VERSIONS_MAX = 20;

/** What is compared with what. */
export interface LostInode {
  readonly versions: VersionReader;
  readonly lost: LostFile;
  /** The bytes of the inode. */
  readonly content: AsyncIterable<Buffer>;
}

/** Undefined when it cannot be told: the last good content is not known, not stored, or nothing but NULs. */
export async function resemblesLastGood(
  { versions, lost, content }: LostInode,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  try {
    const node = await lastGoodNode(versions, lost);
    if (node === undefined) return undefined;
    const share = agreeingShare(await headOf(versions.readContent(node, signal)), await headOf(content));
    return share === undefined ? undefined : share >= AGREEING_SHARE_MIN;
  } catch (error) {
    signal.throwIfAborted();
    note(`the last good content could not be compared: ${messageOf(error)}`);
    return undefined;
  }
}

async function lastGoodNode(versions: VersionReader, { path, lastGood }: LostFile): Promise<FileNode | undefined> {
  const sha256 = lastGood?.sha256;
  if (sha256 === undefined) return undefined;
  const known = await versions.versions(path, { limit: VERSIONS_MAX });
  return known.find(({ node }) => node?.sha256 === sha256)?.node;
}

async function headOf(content: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const part of content) {
    parts.push(part);
    sizeBytes += part.length;
    if (sizeBytes >= HEAD_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, HEAD_BYTES);
}

/** Share of the bytes of `before`, NULs aside, that `now` has at the same places, as far as both reach. */
function agreeingShare(before: Buffer, now: Buffer): number | undefined {
  let [compared, agreeing] = [0, 0];
  for (let at = 0; at < Math.min(before.length, now.length); at += 1) {
    if (before[at] === 0) continue;
    compared += 1;
    if (before[at] === now[at]) agreeing += 1;
  }
  return compared === 0 ? undefined : agreeing / compared;
}
