/**
 * What an editor keeps beside a file while that is open, and takes away when it is closed: swap files, autosaves and locks.
 * Put back they would do harm: vim asks for a recovery, emacs and LibreOffice take the file for open elsewhere.
 */
import { type BytePath, joinPath, nameOf, parentPath } from "../../base/paths.js";
import { lookAt } from "../look.js";
import type { Registry, RegistryRecord } from "../registry.js";

/** How each names what it keeps; the group is the name of the file that is open. */
const HELPERS: readonly RegExp[] = [
  /^\.(.+)\.sw[a-p]$/, // vim and nano
  /^\.(.+)\.kate-swp$/,
  /^#(.+)#$/, // emacs: autosave
  /^\.~lock\.(.+)#$/, // LibreOffice
];
/** emacs: a link to `user@host.pid`, or with the time of the boot behind it. */
const EMACS_LOCK = /^\.#(.+)$/;
const EMACS_LOCK_TARGET = /@.*\.\d+(?::\d+)?$/;

/** A helper as it was last known. */
export interface KnownHelper {
  readonly source: string;
  readonly path: BytePath;
  readonly record: RegistryRecord;
}

/**
 * True when what is missing is such a helper and nothing happened to the file itself: it stands, or was never saved. What
 * goes together with its file is no less lost than that.
 */
export function isPutAwayByEditor(registry: Pick<Registry, "get">, { source, path, record }: KnownHelper): boolean {
  const name = openFileOf(path, record);
  if (name === undefined) return false;
  const owner = joinPath(parentPath(path), name);
  if (lookAt(owner).is === "there") return true;
  const known = registry.get(source, owner);
  return (known === undefined || known.state === "removed") && lookAt(parentPath(path)).is === "there";
}

function openFileOf(path: BytePath, { kind, linkTarget }: RegistryRecord): string | undefined {
  const name = nameOf(path);
  if (kind === "symlink") {
    const isLock = linkTarget !== undefined && EMACS_LOCK_TARGET.test(linkTarget);
    return isLock ? EMACS_LOCK.exec(name)?.[1] : undefined;
  }
  if (kind !== "file") return undefined;
  for (const pattern of HELPERS) {
    const found = pattern.exec(name)?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}
