/**
 * Whether a removal is meant because of who did it: a tool of the system, or who had set the file aside while it saved it anew. What the tool itself takes away is its work. What
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
 * Why a process may take away a file that it set aside moments before, as editors do while they save it anew, for people:
 * it stands under the name before again. Undefined when it is not that file.
 */
export function meantBySaver(actor: Actor | undefined, record: RegistryRecord): string | undefined {
  if (actor?.namedIt === undefined || actor.namedIt.ino !== String(record.stat.ino)) return undefined;
  const { from, atMs } = actor.namedIt;
  if (record.registeredAtMs < atMs) return undefined; // the number is used again: this one was stored before
  const look = lookAt(from);
  const isThere = look.is === "there" && look.node.kind === "file";
  return isThere ? "taken away by the process that had set it aside while it saved the file anew" : undefined;
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
