/**
 * What a program keeps beside a file while it works on it, and takes away when it is done: swap files, autosaves and locks
 * of editors, the old and the new file of dpkg. Put back they would do harm: vim asks for a recovery, emacs and
 * LibreOffice take the file for open elsewhere.
 */
import { type BytePath, joinPath, nameOf, parentPath } from "../../base/paths.js";
import { lookAt } from "../look.js";
import type { Registry, RegistryRecord } from "../registry.js";

/** How each names what it keeps; the group is the name of that file. */
const HELPERS: readonly RegExp[] = [
  /^\.(.+)\.sw[a-p]$/, // vim and nano
  /^\.(.+)\.kate-swp$/,
  /^#(.+)#$/, // emacs: autosave
  /^\.~lock\.(.+)#$/, // LibreOffice
  /^(.+)\.dpkg-(?:new|tmp)$/, // also of a system in a folder, whose lock is not the one that is looked at
];
/** What all of them have, asked of a hundred thousand names. */
const MAY_BE_HELPER = /^[.#]|\.dpkg-/;
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
export function isPutAwayHelper(registry: Pick<Registry, "get">, { source, path, record }: KnownHelper): boolean {
  const name = ownerNameOf(path, record);
  if (name === undefined) return false;
  const owner = joinPath(parentPath(path), name);
  if (lookAt(owner).is === "there") return true;
  const known = registry.get(source, owner);
  return (known === undefined || known.state === "removed") && lookAt(parentPath(path)).is === "there";
}

function ownerNameOf(path: BytePath, { kind, linkTarget }: RegistryRecord): string | undefined {
  const name = nameOf(path);
  if (kind === "symlink") {
    const isLock = linkTarget !== undefined && EMACS_LOCK_TARGET.test(linkTarget);
    return isLock ? EMACS_LOCK.exec(name)?.[1] : undefined;
  }
  if (kind !== "file" || !MAY_BE_HELPER.test(name)) return undefined;
  for (const pattern of HELPERS) {
    const found = pattern.exec(name)?.[1];
    if (found !== undefined) return found;
  }
  return undefined;
}
