/**
 * Suspicions of one source and when they are an alarm. One suspicious file is a person at work; three within a day, or
 * three in different folders within a month, are not. Signs that stand beside them (the same new name in many folders,
 * many files with one strange new ending) lower the number to one. Pure: times come in, nothing is read.
 */
import type { BytePath } from "../../base/paths.js";
import { nameOf, parentPath } from "../../base/paths.js";
import type { RegistryRecord } from "../registry-record.js";

/** A version that looks encrypted or destroyed beside the one before it. */
export interface Suspicion {
  readonly path: BytePath;
  /** For people; holds no content. */
  readonly reason: string;
  /** Wall ms. */
  readonly atMs: number;
  /** What was registered of the last clean version. */
  readonly clean: RegistryRecord;
  /** Stamp of what stands there instead; "" when nothing does. */
  readonly stamp: string;
  /** deleted: the file itself is gone, and its content stands encrypted under another name. */
  readonly kind: "encrypted" | "deleted";
}

export const SUSPICIONS_FOR_ALARM = 3;
const DAY_MS = 86_400_000;
const MONTH_MS = 30 * DAY_MS;
/** Below the alarm a handful is enough to remember; the oldest go first. */
const REMEMBERED_MAX = 64;

export class Suspicions {
  readonly #byPath = new Map<BytePath, Suspicion>();

  /** A path counts once, with its oldest clean version. */
  add(suspicion: Suspicion): void {
    const before = this.#byPath.get(suspicion.path);
    this.#byPath.delete(suspicion.path);
    this.#byPath.set(suspicion.path, { ...suspicion, clean: before?.clean ?? suspicion.clean });
    const [oldest] = this.#byPath.keys();
    if (this.#byPath.size > REMEMBERED_MAX && oldest !== undefined) this.#byPath.delete(oldest);
  }

  /** The file is in order again. */
  drop(path: BytePath): void {
    this.#byPath.delete(path);
  }

  clear(): void {
    this.#byPath.clear();
  }

  /** Those of the last month, oldest first. */
  recent(nowMs: number): readonly Suspicion[] {
    return [...this.#byPath.values()].filter(({ atMs }) => nowMs - atMs <= MONTH_MS);
  }

  /** `hasSign`: something else speaks for an attack as well. */
  isAlarm(nowMs: number, hasSign: boolean): boolean {
    const recent = this.recent(nowMs);
    if (hasSign && recent.length > 0) return true;
    if (recent.filter(({ atMs }) => nowMs - atMs <= DAY_MS).length >= SUSPICIONS_FOR_ALARM) return true;
    return new Set(recent.map(({ path }) => parentPath(path))).size >= SUSPICIONS_FOR_ALARM;
  }
}

/** New files of one name and size in this many folders within the window look like a note to the owner. */
const NOTE_FOLDERS_MIN = 5;
const NOTE_WINDOW_MS = 10 * 60_000;
const NOTE_NAMES_MAX = 2000;
/** A note is short. */
const NOTE_BYTES_MAX = 64 * 1024;

/** The same new file in many folders: by itself a habit of installers, beside a suspicion a ransom note. Times are steady. */
export class Notes {
  readonly #seen = new Map<string, { readonly folders: Set<string>; firstMs: number }>();
  #lastMs = -Infinity;

  /** A file appeared that was not there before. */
  appeared(name: string, folder: BytePath, sizeBytes: number, nowMs: number): void {
    if (sizeBytes === 0 || sizeBytes > NOTE_BYTES_MAX) return;
    const key = `${name}\0${String(sizeBytes)}`;
    let seen = this.#seen.get(key);
    if (seen === undefined || nowMs - seen.firstMs > NOTE_WINDOW_MS) {
      seen = { folders: new Set(), firstMs: nowMs };
      this.#seen.delete(key);
      this.#seen.set(key, seen);
    }
    if (seen.folders.size < NOTE_FOLDERS_MIN) seen.folders.add(folder);
    if (seen.folders.size >= NOTE_FOLDERS_MIN) this.#lastMs = nowMs;
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > NOTE_NAMES_MAX && oldest !== undefined) this.#seen.delete(oldest);
  }

  /** Whether such a note was seen lately. */
  isSign(nowMs: number): boolean {
    return nowMs - this.#lastMs <= NOTE_WINDOW_MS;
  }
}

/** So many files that got the same new ending behind their whole name within the window are a sign. */
const RENAMES_MIN = 3;
const RENAME_WINDOW_MS = 10 * 60_000;
const RENAME_ENDINGS_MAX = 500;
/** Endings that people and tools put behind a name every day. */
const DAILY_ENDINGS =
  /^(?:\d+|gz|tgz|bz2|xz|zst|lz4|zip|gpg|age|asc|sig|bak|backup|old|orig|save|saved|tmp|temp|part|new|off|disabled|deleted|removed|dist|example|sample|default|txt|md|done|processed|rej|swp)$/i;

/** Many files renamed to one strange ending: by itself no harm, for their content stands there; beside a suspicion a sign. Times are steady. */
export class Renames {
  readonly #seen = new Map<string, { readonly paths: Set<BytePath>; firstMs: number }>();
  #lastMs = -Infinity;

  /** A file was renamed with its content as it was. */
  renamed(from: BytePath, to: BytePath, nowMs: number): void {
    const [name, newName] = [nameOf(from), nameOf(to)];
    const ending = newName.startsWith(`${name}.`) ? newName.slice(name.length + 1) : "";
    if (ending === "" || DAILY_ENDINGS.test(ending)) return;
    let seen = this.#seen.get(ending);
    if (seen === undefined || nowMs - seen.firstMs > RENAME_WINDOW_MS) {
      seen = { paths: new Set(), firstMs: nowMs };
      this.#seen.delete(ending);
      this.#seen.set(ending, seen);
    }
    if (seen.paths.size < RENAMES_MIN) seen.paths.add(from);
    if (seen.paths.size >= RENAMES_MIN) this.#lastMs = nowMs;
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > RENAME_ENDINGS_MAX && oldest !== undefined) this.#seen.delete(oldest);
  }

  /** Whether so many were renamed lately. */
  isSign(nowMs: number): boolean {
    return nowMs - this.#lastMs <= RENAME_WINDOW_MS;
  }
}
