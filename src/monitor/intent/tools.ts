/**
 * Whether a removal is meant because of who did it: a tool of the system, or who had made the file a moment before. What the tool itself takes away is its work. What
 * programs that it started take away (a hook of git, a recipe of make, a script of a package) counts only where its work
 * is: in the git work tree, or else the folder, that it ran in; of what installs packages, where packages put files.
 * A tool can be told to start anything.
 */
import { lstatSync } from "node:fs";
import type { Actor } from "../../base/events.js";
import { type BytePath, isWithin, joinPath, parentPath, pathBytes } from "../../base/paths.js";
import { lookAt } from "../look.js";
import type { RegistryRecord } from "../registry.js";
import { isPackageFolder } from "./installers.js";

/** Tools that work on the files of the folder that they are started in. */
const BUILDERS = new Set(["git", "make", "gmake", "ninja"]);

/**
 * Why a process may take away a file that it made itself moments before, for people; undefined when it is not that file.
 * One that it only gave this name (as editors do with what they save anew) must stand under the name before again.
 */
export function meantByMaker(actor: Actor | undefined, record: RegistryRecord): string | undefined {
  if (actor?.madeIt === undefined || actor.madeIt.ino !== String(record.stat.ino)) return undefined;
  const { from, atMs } = actor.madeIt;
  if (record.registeredAtMs < atMs) return undefined; // the number is used again: this one was stored before
  const look = from === undefined ? undefined : lookAt(from);
  const isThere = look === undefined || (look.is === "there" && look.node.kind === "file");
  return isThere ? "taken away by the process that had made it moments before" : undefined;
}

/** Why the removal of a path by this actor is meant, for people; undefined when it need not be. */
export function meantByTool(actor: Actor | undefined, path: BytePath): string | undefined {
  if (actor?.tool === undefined || actor.isGuess === true) return undefined;
  if (actor.worksFor === undefined) return `taken away by ${actor.tool}`;
  const isItsWork = BUILDERS.has(actor.tool) ? isBelowWork(path, actor.worksFor.folder) : isPackageFolder(path);
  return isItsWork ? `taken away for ${actor.tool}` : undefined;
}

function isBelowWork(path: BytePath, folder: BytePath | undefined): boolean {
  return folder !== undefined && folder !== "/" && isWithin(path, workTreeOf(folder) ?? folder);
}

/** The root of the git work tree that holds a folder. */
function workTreeOf(folder: BytePath): BytePath | undefined {
  for (let root = folder; root !== "/"; root = parentPath(root))
    if (lstatSync(pathBytes(joinPath(root, ".git")), { throwIfNoEntry: false }) !== undefined) return root;
  return undefined;
}
