/**
 * Whether git itself may have taken a file of its folder (`.git`) away: it packs objects and refs, ends branches and cleans
 * up after operations. What it never removes is a loss (the index among it, which alone knows what is staged: git replaces
 * it), and so is what leaves no repository, a branch whose log still stands, the last pack, and objects that git needs and
 * does not find any more. Of a linked work tree git removes the whole folder, or nothing.
 */
import { createHash } from "node:crypto";
import { type Stats, lstatSync, readFileSync, readdirSync } from "node:fs";
import { type BytePath, joinPath, nameOf, parentPath, pathBytes, relativeTo } from "../../base/paths.js";
import type { Clock } from "../../base/clock.js";
import { lookAt } from "../look.js";
import type { RegistryRecord } from "../registry.js";
import { type MissingObjects, isPacked, looseObjectId } from "./git-objects.js";
import type { GitWalks } from "./git-walks.js";

/** Written by people, or once for all; git replaces them at most. */
const NEVER_REMOVED = new Set([
  "HEAD",
  "config",
  "description",
  "index",
  "info/attributes",
  "info/exclude",
  "packed-refs",
]);
const HOOKS = "hooks/";
const PACK = /^objects\/pack\/[^/]+\.(?:pack|idx)$/;
/** In a git folder, what lies in the repository of a submodule, whose name may have slashes. */
const SUBMODULE =
  /^((?:worktrees\/[^/]+\/)?modules\/.+?)\/(?:(?:objects|refs|hooks|info|logs)\/.+|HEAD|config|description|index|packed-refs)$/;
/** What git keeps of a linked work tree as long as it keeps that. */
const LINKED = /^(worktrees\/[^/]+)\/(?:HEAD|commondir|gitdir|index|logs\/HEAD)$/;
const HEAD_LOG = /^((?:worktrees\/[^/]+\/)?logs)\/HEAD$/;
const REFLOG = /^(?:(?:worktrees|modules)\/.+\/)?logs\/(?:HEAD|refs\/.+)$/;
/** Branches are kept in tables, or are about to be: the logs went into them. */
const REF_TABLES = "reftable";
/** What git asks of a folder before it takes it for a repository, beside `HEAD`. */
const PARTS_OF_REPOSITORY = ["objects", "refs"];
/** Where git does not answer in time: it prunes what nobody wrote for so long (`gc.pruneExpire`), ms. */
const PRUNED_AGE_MS = 14 * 86_400_000;

/** What is gone of a git folder: an object by its id, or a whole pack, which has no other name. */
interface GonePart {
  readonly git: BytePath;
  readonly id: string | undefined;
  /** When it was missed, wall ms. */
  readonly seenAtMs: number;
  /** When it was last written, wall ms. */
  readonly writtenMs: number;
}

/** What git says of what `takes` could not tell. */
export interface GitAnswers {
  /** Git does well without. */
  readonly spared: ReadonlySet<BytePath>;
  /** It has not come to an answer yet. */
  readonly waiting: ReadonlySet<BytePath>;
}

/** Looks once at each repository, for one round of questions. */
export class GitHousekeeping {
  readonly #walks: GitWalks;
  readonly #living = new Map<BytePath, boolean>();
  readonly #standing = new Map<BytePath, boolean>();
  readonly #packedRefs = new Map<BytePath, ReadonlyMap<string, string>>();
  /** Objects and packs of which git has to be asked. */
  readonly #asked = new Map<BytePath, GonePart>();

  constructor(walks: GitWalks) {
    this.#walks = walks;
  }

  /**
   * True for a file in a `.git` that git may have removed; `sha256` is of its last known content. Of some git has to be
   * asked first: `answers` tells.
   */
  takes(path: BytePath, { sha256, stat }: Pick<RegistryRecord, "sha256" | "stat">, seenAtMs: number): boolean {
    const outer = gitFolderOf(parentPath(path));
    if (outer === undefined) return false;
    const git = this.#submoduleOf(path, outer) ?? outer;
    if (git === outer && !this.#isLiving(git)) return false;
    const name = relativeTo(path, git);
    const whole = takenAsWhole(git, name);
    if (whole !== undefined) return whole;
    const id = looseObjectId(name);
    if (id !== undefined && isPacked(git, id)) return true;
    if (id !== undefined || PACK.test(name)) {
      const writtenMs = Number(stat.mtimeNs / 1_000_000n);
      if (id !== undefined || hasOtherPack(path)) this.#asked.set(path, { git, id, seenAtMs, writtenMs });
      return false;
    }
    return !name.startsWith("refs/") || this.#isRefElsewhere(git, name, sha256);
  }

  /** Asks git of what `takes` could not tell. */
  async answers(clock: Clock, signal: AbortSignal): Promise<GitAnswers> {
    const spared = new Set<BytePath>();
    const waiting = new Set<BytePath>();
    const missedMs = new Map<BytePath, number>();
    for (const { git, seenAtMs } of this.#asked.values())
      missedMs.set(git, Math.max(missedMs.get(git) ?? seenAtMs, seenAtMs));
    const answers = await this.#walks.ask(missedMs, clock, signal);
    for (const [path, part] of this.#asked) {
      const missing = answers.get(part.git) ?? "broken";
      if (missing === "busy") waiting.add(path);
      else if (isSpared(part, missing, clock.nowMs())) spared.add(path);
    }
    return { spared, waiting };
  }

  /** The folder of a submodule's repository that a path lies in and that stands; who cleans up takes it as a whole. */
  #submoduleOf(path: BytePath, git: BytePath): BytePath | undefined {
    const name = SUBMODULE.exec(relativeTo(path, git))?.[1];
    if (name === undefined) return undefined;
    const submodule = joinPath(git, name);
    const hasParts = this.#standing.get(submodule) ?? hasPartsOfRepository(submodule);
    this.#standing.set(submodule, hasParts);
    return hasParts ? submodule : undefined;
  }

  #isLiving(git: BytePath): boolean {
    const known = this.#living.get(git);
    if (known !== undefined) return known;
    const isLiving = statOf(joinPath(git, "HEAD")) !== undefined && hasPartsOfRepository(git);
    this.#living.set(git, isLiving);
    return isLiving;
  }

  /** It is packed, or ended: with a ref its log goes. Of those without a log (tags) nothing can be told. */
  #isRefElsewhere(git: BytePath, name: string, sha256: string | undefined): boolean {
    if (statOf(joinPath(git, `logs/${name}`))?.isFile() !== true) return true;
    let packed = this.#packedRefs.get(git);
    if (packed === undefined) {
      packed = packedRefsOf(git);
      this.#packedRefs.set(git, packed);
    }
    const id = packed.get(name);
    return id !== undefined && (sha256 === undefined || sha256 === contentDigest(`${id}\n`));
  }
}

/**
 * Of what git replaces and never removes by itself: whether all that it belongs to went. Undefined for other files. Where
 * people drop all logs (`git reflog drop --all`) git removes the folders too that it has emptied, up to that of the logs.
 */
function takenAsWhole(git: BytePath, name: string): boolean | undefined {
  const logs = HEAD_LOG.exec(name)?.[1];
  if (logs !== undefined && statOf(joinPath(git, logs)) === undefined) return true;
  if (name === "logs/HEAD") return statOf(joinPath(git, REF_TABLES)) !== undefined;
  if (NEVER_REMOVED.has(name) || name.startsWith(HOOKS)) return false;
  const linked = LINKED.exec(name)?.[1];
  return linked === undefined ? undefined : statOf(joinPath(git, linked)) === undefined;
}

/**
 * True for a log of a branch that git emptied: what is older than 90 days goes at each `git gc`. Git puts a new file in its
 * place; what is cut in place was not cut by git.
 */
export function isExpiredReflog(path: BytePath, { stat }: Pick<RegistryRecord, "stat">): boolean {
  const git = gitFolderOf(parentPath(path));
  if (git === undefined || !REFLOG.test(relativeTo(path, git))) return false;
  const standing = lookAt(path);
  if (standing.is !== "there") return false;
  return standing.node.stat.ino !== stat.ino || isBornAfter(path, standing.stats.birthtimeNs, stat.ctimeNs);
}

/**
 * Of two new files in a row the second may get the number that the old one had: then it is the time of birth that tells.
 * Where that is not kept it is 0, or the ctime, which the folder shows: it is older than the last name that came into it.
 */
function isBornAfter(path: BytePath, birthtimeNs: bigint, ctimeNs: bigint): boolean {
  const folder = lookAt(parentPath(path));
  return folder.is === "there" && folder.stats.birthtimeNs !== folder.stats.ctimeNs && birthtimeNs > ctimeNs;
}

function hasPartsOfRepository(git: BytePath): boolean {
  return PARTS_OF_REPOSITORY.every((part) => statOf(joinPath(git, part))?.isDirectory() === true);
}

/** Without its index git does not know what is staged; a pack of which it cannot say that it can do without comes back. */
function isSpared({ git, id, writtenMs }: GonePart, missing: MissingObjects, nowMs: number): boolean {
  if (missing === "broken" || statOf(joinPath(git, "index")) === undefined) return false;
  if (missing === "unknown") return id !== undefined && nowMs - writtenMs > PRUNED_AGE_MS;
  return id === undefined ? missing.size === 0 : !missing.has(id);
}

/** The `.git` that a path lies in, when it lies in one. */
export function gitFolderOf(path: BytePath): BytePath | undefined {
  const cut = `${path}/`.indexOf("/.git/");
  return cut === -1 ? undefined : (path.slice(0, cut + 5) as BytePath);
}

/** A repack writes the new pack before it removes the old ones. */
function hasOtherPack(path: BytePath): boolean {
  const own = nameOf(path).replace(/\.[^.]+$/, ".pack");
  try {
    return readdirSync(pathBytes(parentPath(path)), "latin1").some((name) => name.endsWith(".pack") && name !== own);
  } catch {
    return false;
  }
}

/** Ids by name in `packed-refs`: a line each, the id first. It may hold an older one than the file of the ref. */
function packedRefsOf(git: BytePath): ReadonlyMap<string, string> {
  try {
    const lines = readFileSync(pathBytes(joinPath(git, "packed-refs")), "latin1").split("\n");
    return new Map(lines.map((line) => [line.slice(line.indexOf(" ") + 1), line.slice(0, line.indexOf(" "))]));
  } catch {
    return new Map();
  }
}

function contentDigest(text: string): string {
  return createHash("sha256").update(text, "latin1").digest("hex");
}

function statOf(path: BytePath): Stats | undefined {
  try {
    return lstatSync(pathBytes(path), { throwIfNoEntry: false });
  } catch {
    return undefined; // ENOTDIR: a file where a folder was
  }
}
