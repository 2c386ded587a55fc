/** An SQLite database with the committed pages of a write-ahead log laid over it: one file, as of the log's last commit. */
import type { FileNode } from "../../engine/types.js";
import type { VersionReader } from "../ports.js";
import type { SqliteLog } from "./sqlite-log.js";

export interface Overlay {
  readonly log: SqliteLog;
  /** The whole log file. */
  readonly bytes: Buffer;
  /** The stored database under it; undefined: every page is in the log. */
  readonly base: FileNode | undefined;
}

/** Pages that neither the log nor the stored database has. */
export function missingPages({ log, base }: Pick<Overlay, "log" | "base">): number {
  const stored = Math.floor((base?.stat.sizeBytes ?? 0) / log.pageBytes);
  let missing = 0;
  for (let page = stored + 1; page <= log.pageCount; page += 1) if (!log.pages.has(page)) missing += 1;
  return missing;
}

/** The database page by page. */
export async function* overlaidPages(
  { log, bytes, base }: Overlay,
  reader: VersionReader,
  signal: AbortSignal,
): AsyncIterable<Buffer> {
  const stored = pagesOfStored(base, log.pageBytes, reader, signal);
  for (let page = 1; page <= log.pageCount; page += 1) {
    signal.throwIfAborted();
    const under = await stored.next();
    const offset = log.pages.get(page);
    if (offset !== undefined) yield bytes.subarray(offset, offset + log.pageBytes);
    else if (under.done !== true) yield under.value;
    else throw new Error(`page ${String(page)} is in neither the log nor the stored database`);
  }
  await stored.return(undefined);
}

async function* pagesOfStored(
  base: FileNode | undefined,
  pageBytes: number,
  reader: VersionReader,
  signal: AbortSignal,
): AsyncGenerator<Buffer, undefined> {
  if (base === undefined) return undefined;
  let rest: Buffer = Buffer.alloc(0);
  for await (const part of reader.readContent(base, signal)) {
    rest = rest.length === 0 ? part : Buffer.concat([rest, part]);
    let at = 0;
    for (; at + pageBytes <= rest.length; at += pageBytes) yield rest.subarray(at, at + pageBytes);
    rest = rest.subarray(at);
  }
  return undefined;
}
