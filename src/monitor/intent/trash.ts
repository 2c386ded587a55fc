/**
 * Whether a missing file lies in a trash: then its owner meant it to go. Knows the trash of each home and those at the
 * top of a mounted file system (`.Trash/UID`, `.Trash-UID`), by the freedesktop.org specification.
 */
import { lstatSync, readFileSync, readdirSync } from "node:fs";
import { type BytePath, joinPath, parentPath, pathBytes, pathFromText } from "../../base/paths.js";

/** Entries looked at in one trash, newest names last; a trash may hold years. */
const ENTRIES_MAX = 5000;

/** Reads the trashes anew for one round of questions. */
export class TrashKnowledge {
  readonly #homes: readonly string[];
  readonly #originals = new Map<BytePath, ReadonlySet<BytePath>>();

  /** `homes`: where people's trashes are; by default those of /etc/passwd. */
  constructor(homes: readonly string[] = homesOfUsers()) {
    this.#homes = homes;
  }

  /** Whether the path or a folder above it was put into a trash after `sinceMs` (wall). */
  holds(path: BytePath, mountPoint: BytePath, uid: number, sinceMs: number): boolean {
    return this.#trashes(mountPoint, uid).some((trash) => {
      const originals = this.#originalsIn(trash, sinceMs);
      for (let part = path; part !== "/"; part = parentPath(part)) if (originals.has(part)) return true;
      return false;
    });
  }

  #trashes(mountPoint: BytePath, uid: number): readonly BytePath[] {
    const ofHomes = this.#homes.map((home) => pathFromText(`${home}/.local/share/Trash`));
    const xdg = process.env["XDG_DATA_HOME"];
    return [
      ...ofHomes,
      ...(xdg === undefined || xdg === "" ? [] : [pathFromText(`${xdg}/Trash`)]),
      joinPath(mountPoint, `.Trash-${String(uid)}`),
      joinPath(joinPath(mountPoint, ".Trash"), String(uid)),
    ];
  }

  #originalsIn(trash: BytePath, sinceMs: number): ReadonlySet<BytePath> {
    const known = this.#originals.get(trash);
    if (known !== undefined) return known;
    const originals = new Set<BytePath>();
    const info = joinPath(trash, "info");
    for (const name of namesIn(info).slice(-ENTRIES_MAX)) {
      if (!name.endsWith(".trashinfo")) continue;
      const file = joinPath(info, name);
      const stats = lstatSync(pathBytes(file), { throwIfNoEntry: false });
      if (stats === undefined || stats.mtimeMs < sinceMs) continue;
      const original = originalPath(file, parentPath(trash));
      if (original !== undefined) originals.add(original);
    }
    this.#originals.set(trash, originals);
    return originals;
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
