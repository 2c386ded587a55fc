/**
 * A hidden folder (0700) on the file system of protected files, which holds a hard link or a reflink of each, so that
 * they survive the removal of their own names, and our own end. What stands in one is named by whose it is:
 * `<digest of the source>-<digest of the path>-<l or c>-<rest>`; the rest of a reflink's name is the content's SHA-256.
 *
 * A hard link is the file itself: it has every byte that is written later, and every damage. A reflink (btrfs, xfs)
 * shares the content as it was when it was made.
 */
import { createHash } from "node:crypto";
import {
  type BigIntStats,
  chmodSync,
  constants,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  statfsSync,
  unlinkSync,
} from "node:fs";
import { errnoOf } from "../base/errors.js";
import { randomHex } from "../base/ids.js";
import { PIN_FOLDER_PREFIX } from "../base/own-names.js";
import { type BytePath, joinPath, parentPath, pathBytes } from "../base/paths.js";

export const LINK_KINDS = ["hard_link", "reflink"] as const;
export type LinkKind = (typeof LINK_KINDS)[number];

/** What is kept of one file. */
export interface KeptLink {
  readonly folder: PinFolder;
  /** In the folder. */
  readonly name: string;
  readonly kind: LinkKind;
  /** Of the content when it was made; reflinks only. */
  readonly sha256: string | undefined;
}

/** Why nothing could be kept: another place may do, another kind may do, or nothing will. */
export type KeepFailure = "elsewhere" | "no_reflinks" | "failed";

/** File systems that can link within themselves and are this machine's own, by the number that statfs gives. */
const LINKING = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0xf2f52010]);
/** Those of them that have reflinks: xfs, btrfs. */
const REFLINKING = new Set([0x58465342, 0x9123683e]);
const KIND_LETTERS = { l: "hard_link", c: "reflink" } as const;
const NAME = /^(?<key>[0-9a-f]{8}-[0-9a-f]{32})-(?<letter>[lc])-(?<rest>[0-9a-f]{16,64})$/;

/** What a file of a source is called in every folder, without its kind. */
export function linkKey(source: string, path: BytePath): string {
  return `${sourceKey(source)}-${createHash("sha256").update(path, "latin1").digest("hex").slice(0, 32)}`;
}

/** What the keys of a source's files begin with. */
export function sourceKey(source: string): string {
  return createHash("sha256").update(source).digest("hex").slice(0, 8);
}

/** Where links of a file may be kept: in the state folder when that is on the same file system, else at its top. */
export function placesOfLinks(path: BytePath, dev: bigint, stateDir: BytePath): readonly BytePath[] {
  const top = joinPath(topOf(path, dev), `${PIN_FOLDER_PREFIX}${String(process.getuid?.() ?? 0)}`);
  return statOf(stateDir)?.dev === dev ? [joinPath(stateDir, "pins"), top] : [top];
}

export class PinFolder {
  readonly path: BytePath;
  readonly dev: bigint;
  /** False when the file system has none, or was found to refuse them. */
  hasReflinks: boolean;

  private constructor(path: BytePath, dev: bigint, hasReflinks: boolean) {
    this.path = path;
    this.dev = dev;
    this.hasReflinks = hasReflinks;
  }

  /**
   * The folder at a path, made if `mayMake`. Undefined: it is not there, cannot be made, somebody else owns it or may
   * look into it, or the file system is none that this is done on.
   */
  static open(path: BytePath, mayMake: boolean): PinFolder | undefined {
    try {
      const fileSystem = statfsSync(pathBytes(parentPath(path))).type;
      if (!LINKING.has(fileSystem)) return undefined;
      if (mayMake) makeUnlessThere(path);
      const stat = lstatSync(pathBytes(path), { bigint: true });
      const isOurs = stat.isDirectory() && stat.uid === BigInt(process.getuid?.() ?? 0) && (stat.mode & 0o077n) === 0n;
      return isOurs ? new PinFolder(path, stat.dev, REFLINKING.has(fileSystem)) : undefined;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return undefined;
    }
  }

  /** All that is kept here, by key. What has no name of ours is left alone. */
  *kept(): Iterable<[string, KeptLink]> {
    for (const name of readdirSync(pathBytes(this.path), "latin1")) {
      const { key, letter, rest } = NAME.exec(name)?.groups ?? {};
      if (key === undefined || (letter !== "l" && letter !== "c")) continue;
      const kind = KIND_LETTERS[letter];
      yield [key, { folder: this, name, kind, sha256: kind === "reflink" ? rest : undefined }];
    }
  }

  /** Another name for the inode; `failed` when another stands at the path by now. */
  hardLink(key: string, path: BytePath, wanted: BigIntStats): KeptLink | KeepFailure {
    const name = `${key}-l-${randomHex(8)}`;
    const failure = this.#attempt(() => linkSync(pathBytes(path), pathBytes(joinPath(this.path, name))));
    if (failure !== undefined) return failure;
    const kept: KeptLink = { folder: this, name, kind: "hard_link", sha256: undefined };
    const stat = this.stat(kept);
    if (stat?.ino === wanted.ino && stat.dev === wanted.dev) return kept;
    this.remove(kept);
    return "failed";
  }

  /** The content of an open file, shared until one of both is written to. */
  reflink(key: string, fd: number, sha256: string): KeptLink | KeepFailure {
    const kept: KeptLink = { folder: this, name: `${key}-c-${sha256}`, kind: "reflink", sha256 };
    const flags = constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL;
    const file = pathBytes(joinPath(this.path, kept.name));
    const failure = this.#attempt(() => {
      copyFileSync(`/proc/self/fd/${String(fd)}`, file, flags);
      chmodSync(file, 0o600);
    });
    if (failure === undefined) return kept;
    if (failure === "elsewhere") this.hasReflinks = false;
    return failure === "elsewhere" ? "no_reflinks" : failure;
  }

  stat({ name }: KeptLink): BigIntStats | undefined {
    return statOf(joinPath(this.path, name));
  }

  remove({ name }: KeptLink): void {
    this.#attempt(() => unlinkSync(pathBytes(joinPath(this.path, name))));
  }

  /** Removes the folder if nothing is in it. */
  removeIfEmpty(): boolean {
    return this.#attempt(() => rmdirSync(pathBytes(this.path))) === undefined;
  }

  /** `elsewhere`: this file system has it not, or not between these places. */
  #attempt(work: () => void): KeepFailure | undefined {
    try {
      work();
      return undefined;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      return ["EXDEV", "ENOTSUP", "EOPNOTSUPP", "ENOTTY", "ENOSYS"].includes(errno) ? "elsewhere" : "failed";
    }
  }
}

/** The topmost folder of the file system that holds a path. */
function topOf(path: BytePath, dev: bigint): BytePath {
  let folder = parentPath(path);
  while (folder !== "/" && statOf(parentPath(folder))?.dev === dev) folder = parentPath(folder);
  return folder;
}

function makeUnlessThere(path: BytePath): void {
  try {
    mkdirSync(pathBytes(path), { mode: 0o700 });
  } catch (error) {
    if (errnoOf(error) !== "EEXIST") throw error;
  }
}

function statOf(path: BytePath): BigIntStats | undefined {
  try {
    return lstatSync(pathBytes(path), { bigint: true });
  } catch {
    return undefined;
  }
}
