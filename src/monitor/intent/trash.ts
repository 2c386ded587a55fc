/**
 * Whether a missing file lies in a trash: then its owner meant it to go. Knows the trash of each home and those at the
 * top of a mounted file system (`.Trash/UID`, `.Trash-UID`), by the freedesktop.org specification.
 */
import { lstatSync, readFileSync, readdirSync } from "node:fs";
import { type BytePath, joinPath, nameOf, parentPath, pathBytes, pathFromText } from "../../base/paths.js";

/** Entries looked at in one trash, newest names last; a trash may hold years. */
const ENTRIES_MAX = 5000;
const NOTE_ENDING = ".trashinfo";

/** Reads the trashes anew for one round of questions. */
export class TrashKnowledge {
  readonly #homes: readonly string[];
  readonly #trashes = new Map<string, readonly Trash[]>();
  readonly #byFolder = new Map<BytePath, Trash>();

  /** `homes`: where people's trashes are; by default those of /etc/passwd. */
  constructor(homes: readonly string[] = homesOfUsers()) {
    this.#homes = homes;
  }

  /** Whether the path or a folder above it was put into a trash after `sinceMs` (wall). */
  holds(path: BytePath, mountPoint: BytePath, uid: number, sinceMs: number): boolean {
    return this.#trashesOf(mountPoint, uid).some((trash) => trash.holds(path, sinceMs));
  }

  /** Those that hold anything. */
  #trashesOf(mountPoint: BytePath, uid: number): readonly Trash[] {
    const key = `${String(uid)}:${mountPoint}`;
    let trashes = this.#trashes.get(key);
    if (trashes === undefined) {
      trashes = this.#foldersOf(mountPoint, uid)
        .map((folder) => this.#open(folder))
        .filter(({ isEmpty }) => !isEmpty);
      this.#trashes.set(key, trashes);
    }
    return trashes;
  }

  #open(folder: BytePath): Trash {
    const trash = this.#byFolder.get(folder) ?? new Trash(folder);
    this.#byFolder.set(folder, trash);
    return trash;
  }

  #foldersOf(mountPoint: BytePath, uid: number): readonly BytePath[] {
    const ofHomes = this.#homes.map((home) => pathFromText(`${home}/.local/share/Trash`));
    const xdg = process.env["XDG_DATA_HOME"];
    return [
      ...ofHomes,
      ...(xdg === undefined || xdg === "" ? [] : [pathFromText(`${xdg}/Trash`)]),
      joinPath(mountPoint, `.Trash-${String(uid)}`),
      joinPath(joinPath(mountPoint, ".Trash"), String(uid)),
    ];
  }
}

/** One trash; its entries are read as far back as somebody asks. */
class Trash {
  readonly #folder: BytePath;
  /** Newest first. */
  readonly #entries: readonly { readonly file: BytePath; readonly mtimeMs: number }[];
  /** When each path was put here last, wall ms. */
  readonly #putAtMs = new Map<BytePath, number>();
  #readCount = 0;

  constructor(folder: BytePath) {
    this.#folder = folder;
    const info = joinPath(folder, "info");
    this.#entries = namesIn(info)
      .slice(-ENTRIES_MAX)
      .filter((name) => name.endsWith(NOTE_ENDING))
      .flatMap((name) => {
        const file = joinPath(info, name);
        const stats = lstatSync(pathBytes(file), { throwIfNoEntry: false });
        return stats === undefined ? [] : [{ file, mtimeMs: stats.mtimeMs }];
      })
      .sort((left, right) => right.mtimeMs - left.mtimeMs);
  }

  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  holds(path: BytePath, sinceMs: number): boolean {
    this.#read(sinceMs);
    for (let part = path; part !== "/"; part = parentPath(part))
      if ((this.#putAtMs.get(part) ?? -Infinity) >= sinceMs) return true;
    return false;
  }

  #read(sinceMs: number): void {
    for (;;) {
      const entry = this.#entries[this.#readCount];
      if (entry === undefined || entry.mtimeMs < sinceMs) return;
      this.#readCount += 1;
      const original = this.#holdsContentOf(entry.file)
        ? originalPath(entry.file, parentPath(this.#folder))
        : undefined;
      if (original !== undefined && !this.#putAtMs.has(original)) this.#putAtMs.set(original, entry.mtimeMs);
    }
  }

  /** A note alone proves nothing: anybody can write one, and whoever moves the file back by hand leaves it. */
  #holdsContentOf(note: BytePath): boolean {
    const name = nameOf(note).slice(0, -NOTE_ENDING.length);
    return (
      lstatSync(pathBytes(joinPath(joinPath(this.#folder, "files"), name)), { throwIfNoEntry: false }) !== undefined
    );
  }
}

/** The `Path=` of a trash entry; relative ones count from the folder that holds the trash. */
function originalPath(file: BytePath, topFolder: BytePath): BytePath | undefined {
  let text: string;
  try {
    text = readFileSync(pathBytes(file), "latin1");
  } catch {
    return undefined;
  }
  const encoded = /^Path=(.+)$/m.exec(text)?.[1];
  if (encoded === undefined) return undefined;
  const path = encoded.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return path.startsWith("/") ? (path as BytePath) : joinPath(topFolder, path);
}

/** Homes of people and of root, from /etc/passwd, and of this process. */
function homesOfUsers(): readonly string[] {
  const homes = new Set<string>([process.env["HOME"] ?? "/root"]);
  try {
    for (const line of readFileSync("/etc/passwd", "utf8").split("\n")) {
      const fields = line.split(":");
      const [uid, home] = [Number(fields[2]), fields[5]];
      if (home !== undefined && home.startsWith("/") && (uid === 0 || uid >= 1000)) homes.add(home);
    }
  } catch {
    // a system without a list of users
  }
  return [...homes];
}

function namesIn(folder: BytePath): readonly string[] {
  try {
    return readdirSync(pathBytes(folder), "latin1");
  } catch {
    return [];
  }
}
