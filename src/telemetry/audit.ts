/**
 * The audit log: who did what, one JSON object a line, each with the hash of the one before it, so that a line that was
 * changed, removed or put in shows. Whoever may write the files could still forge all that follow: copy the newest hash
 * elsewhere now and then. Files are rotated; the oldest go. Recording never throws and never holds anybody up.
 */
import { createHash } from "node:crypto";
import { type FileHandle, mkdir, open, readFile, readdir, truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, isoTime } from "../base/clock.js";
import { errnoOf, messageOf } from "../base/errors.js";
import type { Logger } from "../base/observe.js";

export interface AuditNote {
  /** Such as `api.write` or `incident.healed`. */
  readonly action: string;
  /** Who: `uid 0`, `daemon`, a program with its process. */
  readonly by: string;
  /** Facts, never secrets nor content. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** One line. */
export interface AuditEntry extends AuditNote {
  /** Counts from 1 on, without gaps. */
  readonly seq: number;
  /** ISO 8601, UTC. */
  readonly at: string;
  /** Hash of the line before; of the first: 64 zeros. */
  readonly prev: string;
  /** SHA-256 over all other fields as they stand in the line, 64 hex. */
  readonly hash: string;
}

export interface AuditVerification {
  readonly entries: number;
  /** Undefined: there is no entry. */
  readonly first?: { readonly seq: number; readonly at: string };
  readonly last?: { readonly seq: number; readonly at: string; readonly hash: string };
  /** Empty: the chain is whole from the first entry that is kept. At most `PROBLEMS_MAX`. */
  readonly problems: readonly string[];
}

export interface AuditOptions {
  /** Made when something is recorded first. */
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Files are begun anew from this size on, bytes; default 8 MiB. */
  readonly fileBytesMax?: number;
  /** Older files go; default 32, which is 256 MiB in all. */
  readonly filesMax?: number;
}

const FILE_BYTES_MAX = 8 * 2 ** 20;
const FILES_MAX = 32;
/** Notes that wait to be written, 2 KiB each at most; more are counted, and the count is recorded. */
const WAITING_MAX = 10_000;
const DETAIL_CHARACTERS_MAX = 2000;
const PROBLEMS_MAX = 100;
const FIRST_PREV = "0".repeat(64);
const FILE_NAME = /^audit-(\d{8})\.jsonl$/;

/** Where the next line goes and what it follows. */
interface ChainEnd {
  file: number;
  sizeBytes: number;
  seq: number;
  hash: string;
}

export class AuditLog implements AsyncDisposable {
  readonly #options: AuditOptions;
  #waiting: (AuditNote & { readonly at: string })[] = [];
  #dropped = 0;
  #running: Promise<void> | undefined;
  #end: ChainEnd | undefined;

  constructor(options: AuditOptions) {
    this.#options = options;
  }

  /** Records; it is on disk soon. */
  record(note: AuditNote): void {
    if (this.#waiting.length >= WAITING_MAX) this.#dropped += 1;
    else this.#waiting.push({ ...note, detail: bounded(note.detail), at: isoTime(this.#options.clock.nowMs()) });
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  /** Everything that was recorded before is on disk when it resolves. */
  async flush(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  /** Newest first. */
  async *entries(): AsyncIterable<AuditEntry> {
    await this.flush();
    for (const file of [...(await this.#files())].reverse())
      for (const line of (await this.#linesOf(file)).reverse()) {
        const entry = parseEntry(line);
        if (entry !== undefined) yield entry;
      }
  }

  /** Reads everything and follows the chain. */
  async verify(signal: AbortSignal): Promise<AuditVerification> {
    await this.flush();
    const problems: string[] = [];
    let [entries, first, last]: [number, AuditEntry | undefined, AuditEntry | undefined] = [0, undefined, undefined];
    for (const file of await this.#files()) {
      for (const [index, line] of (await this.#linesOf(file)).entries()) {
        signal.throwIfAborted();
        const fault = faultOf(line, last);
        const place = `${nameOf(file)}, line ${String(index + 1)}`;
        if (fault !== undefined && problems.length < PROBLEMS_MAX) problems.push(`${place}: ${fault}`);
        last = parseEntry(line) ?? last;
        first ??= last;
        entries += 1;
      }
    }
    if (first === undefined || last === undefined) return { entries, problems };
    const ends = { seq: last.seq, at: last.at, hash: last.hash };
    return { entries, first: { seq: first.seq, at: first.at }, last: ends, problems };
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // whoever records many at once is written at once
    try {
      while (this.#waiting.length > 0 || this.#dropped > 0) await this.#write();
    } catch (error) {
      this.#dropped += this.#waiting.length;
      this.#waiting = [];
      this.#end = undefined; // looked at anew
      this.#options.log.error("audit.failed", { message: messageOf(error) });
      this.#dropped = 0;
    }
  }

  async #write(): Promise<void> {
    const notes = this.#waiting;
    this.#waiting = [];
    if (this.#dropped > 0) {
      const at = isoTime(this.#options.clock.nowMs());
      notes.push({ at, action: "audit.dropped", by: "daemon", detail: { entries: this.#dropped } });
      this.#dropped = 0;
    }
    const end = (this.#end ??= await this.#readEnd());
    if (end.sizeBytes >= (this.#options.fileBytesMax ?? FILE_BYTES_MAX)) await this.#rotate(end);
    let text = "";
    for (const note of notes) {
      const entry = chained(note, end);
      text += `${JSON.stringify(entry)}\n`;
      [end.seq, end.hash] = [entry.seq, entry.hash];
    }
    await using file = await this.#open(end.file);
    const bytes = Buffer.from(text);
    await file.appendFile(bytes);
    await file.datasync();
    end.sizeBytes += bytes.length;
  }

  async #open(file: number): Promise<FileHandle> {
    return await open(join(this.#options.folder, nameOf(file)), "a", 0o600);
  }

  async #rotate(end: ChainEnd): Promise<void> {
    end.file += 1;
    end.sizeBytes = 0;
    const files = await this.#files();
    for (const old of files.slice(0, Math.max(0, files.length + 1 - (this.#options.filesMax ?? FILES_MAX))))
      await unlink(join(this.#options.folder, nameOf(old)));
  }

  /** Where the chain ends. A line that a crash cut off is taken away: it was never whole. */
  async #readEnd(): Promise<ChainEnd> {
    await mkdir(this.#options.folder, { recursive: true, mode: 0o700 });
    const files = await this.#files();
    for (const file of [...files].reverse()) {
      const path = join(this.#options.folder, nameOf(file));
      const content = await readFile(path);
      const wholeBytes = content.lastIndexOf(10) + 1;
      if (wholeBytes < content.length) await truncate(path, wholeBytes);
      const lines = content.toString("utf8", 0, wholeBytes).split("\n").filter(Boolean);
      const entry = lines.map(parseEntry).findLast((one) => one !== undefined);
      if (entry !== undefined)
        return { file: files.at(-1) ?? file, sizeBytes: wholeBytes, seq: entry.seq, hash: entry.hash };
    }
    return { file: files.at(-1) ?? 1, sizeBytes: 0, seq: 0, hash: FIRST_PREV };
  }

  /** Numbers of the files, oldest first. */
  async #files(): Promise<readonly number[]> {
    try {
      const names = await readdir(this.#options.folder);
      return names
        .flatMap((name) => FILE_NAME.exec(name)?.[1] ?? [])
        .map(Number)
        .sort((a, b) => a - b);
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return [];
      throw error;
    }
  }

  async #linesOf(file: number): Promise<string[]> {
    const text = await readFile(join(this.#options.folder, nameOf(file)), "utf8");
    return text.split("\n").filter(Boolean);
  }
}

function nameOf(file: number): string {
  return `audit-${String(file).padStart(8, "0")}.jsonl`;
}

function chained(
  note: AuditNote & { readonly at: string },
  end: { readonly seq: number; readonly hash: string },
): AuditEntry {
  const { at, action, by, detail } = note;
  const body = { seq: end.seq + 1, at, action, by, detail, prev: end.hash };
  return { ...body, hash: hashOf(body) };
}

function hashOf(body: Omit<AuditEntry, "hash">): string {
  return createHash("sha256").update(JSON.stringify(body)).digest("hex");
}

function faultOf(line: string, before: AuditEntry | undefined): string | undefined {
  const entry = parseEntry(line);
  if (entry === undefined) return "it is no entry";
  const { hash, ...body } = entry;
  if (hashOf(body) !== hash) return "it was changed after it was written";
  if (before === undefined)
    return entry.seq === 1 && entry.prev !== FIRST_PREV ? "it does not begin the chain" : undefined;
  if (entry.seq !== before.seq + 1)
    return `entries are missing: ${String(before.seq)} is followed by ${String(entry.seq)}`;
  return entry.prev === before.hash ? undefined : "it does not follow the one before it";
}

/** Undefined: it is no entry. The order of the fields is that of the line, for the hash is over them as they stand. */
function parseEntry(line: string): AuditEntry | undefined {
  try {
    const value: unknown = JSON.parse(line);
    const isEntry =
      typeof value === "object" &&
      value !== null &&
      ["seq", "at", "action", "by", "detail", "prev", "hash"].every((name) => Object.hasOwn(value, name));
    return isEntry ? (value as AuditEntry) : undefined;
  } catch {
    return undefined;
  }
}

/** A detail that is too long is cut, and says so. */
function bounded(detail: AuditNote["detail"]): AuditNote["detail"] {
  const text = JSON.stringify(detail);
  return text.length <= DETAIL_CHARACTERS_MAX ? detail : { cut: text.slice(0, DETAIL_CHARACTERS_MAX) };
}
