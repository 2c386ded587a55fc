/**
 * What git tells about a missing file: whether it is tracked, and whether a git operation took it away on purpose (a
 * checkout, reset, stash, merge, `git rm`). Meant means: git worked on this work tree just then, the path is not in
 * the new index, and git itself holds the content or had the path in its last commits.
 */
import { type BigIntStats, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { mapLimited } from "../../base/concurrency.js";
import { type BytePath, joinPath, parentPath, pathFromText, pathText, relativeTo } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";
import { gitFolderOf } from "./git-housekeeping.js";
import { pathsInIndex } from "./git-index.js";
import { SAFE_GIT_ENV, SAFE_GIT_FLAGS } from "./git-objects.js";
import { GitWalks } from "./git-walks.js";

export interface GitQuestion {
  readonly path: BytePath;
  readonly gitBlobId: string | undefined;
  /** Git's files must have moved at or after this wall time to be the cause. */
  readonly sinceMs: number;
}

/** `busy`: git is at work; ask again. */
export type GitAnswer = "meant" | "busy" | "unknown";

interface WorkTree {
  readonly root: BytePath;
  /** The git folder of this work tree, as text. */
  readonly gitDir: string;
}

interface CachedIndex {
  readonly stamp: string;
  readonly paths: ReadonlySet<string>;
}

/** Indexes kept in memory; one of 100,000 paths takes about 10 MB. */
const INDEXES_MAX = 4;
const INDEX_BYTES_MAX = 256 * 2 ** 20;
const WORK_TREES_MAX = 10_000;
const WORK_TREE_KEEP_MS = 5000;
const GIT_TIMEOUT_MS = 10_000;
/** Work trees that git is asked of at once: one that does not answer holds up no other. */
const TREES_AT_ONCE = 4;
/** Files that move with every operation that may take files away. */
const SIGNS = ["index", "HEAD", "logs/HEAD", "ORIG_HEAD", "logs/refs/stash", "MERGE_HEAD"];

export class GitKnowledge {
  readonly #trees = new Map<BytePath, { readonly tree: WorkTree | undefined; readonly atMs: number }>();
  readonly #indexes = new Map<string, CachedIndex>();
  readonly #monotonicMs: () => number;
  /** Of repositories that files of git itself are gone from. */
  readonly walks = new GitWalks();

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs;
  }

  /** Whether git's index holds the path now. */
  isTracked(path: BytePath): boolean {
    const tree = this.#treeOf(parentPath(path));
    if (tree === undefined || isGitInternal(path)) return false;
    return this.#index(tree)?.has(relativeTo(path, tree.root)) ?? false;
  }

  /** Whether what lies directly in a folder belongs to a work tree of git. */
  isInWorkTree(folder: BytePath): boolean {
    return this.#treeOf(folder) !== undefined;
  }

  /** Whether git took these paths away. */
  async answers(questions: readonly GitQuestion[], signal: AbortSignal): Promise<ReadonlyMap<BytePath, GitAnswer>> {
    const answers = new Map<BytePath, GitAnswer>();
    const byTree = new Map<string, { readonly tree: WorkTree; readonly questions: GitQuestion[] }>();
    for (const question of questions) {
      const tree = this.#treeOf(parentPath(question.path));
      if (tree === undefined) continue;
      const group = byTree.get(tree.gitDir) ?? { tree, questions: [] };
      group.questions.push(question);
      byTree.set(tree.gitDir, group);
    }
    await mapLimited([...byTree.values()], TREES_AT_ONCE, signal, async ({ tree, questions: group }, inner) => {
      for (const [path, answer] of await this.#askTree(tree, group, inner)) answers.set(path, answer);
    });
    return answers;
  }

  async #askTree(
    tree: WorkTree,
    questions: readonly GitQuestion[],
    signal: AbortSignal,
  ): Promise<readonly (readonly [BytePath, GitAnswer])[]> {
    if (statOrNone(join(tree.gitDir, "index.lock")) !== undefined) return questions.map(({ path }) => [path, "busy"]);
    const movedMs = Math.max(...SIGNS.map((name) => mtimeMs(join(tree.gitDir, name))));
    const index = this.#index(tree);
    if (index === undefined) return [];
    const open = questions.filter(({ path, sinceMs }) => movedMs >= sinceMs && !index.has(relativeTo(path, tree.root)));
    if (open.length === 0) return [];
    const held = await heldByGit(tree, open, signal);
    return open.map(({ path }) => [path, held.has(path) ? "meant" : "unknown"]);
  }

  #treeOf(folder: BytePath): WorkTree | undefined {
    const nowMs = this.#monotonicMs();
    const cached = this.#trees.get(folder);
    if (cached !== undefined && nowMs - cached.atMs < WORK_TREE_KEEP_MS) return cached.tree;
    const tree = openWorkTree(folder) ?? (folder === "/" ? undefined : this.#treeOf(parentPath(folder)));
    if (this.#trees.size >= WORK_TREES_MAX) this.#trees.clear();
    this.#trees.set(folder, { tree, atMs: nowMs });
    return tree;
  }

  #index(tree: WorkTree): ReadonlySet<string> | undefined {
    const file = join(tree.gitDir, "index");
    const stats = statOrNone(file);
    if (stats === undefined || stats.size > INDEX_BYTES_MAX) return undefined;
    const stamp = `${String(stats.ino)}:${String(stats.size)}:${String(stats.mtimeNs)}`;
    const cached = this.#indexes.get(file);
    if (cached?.stamp === stamp) return cached.paths;
    const paths = readIndex(file);
    if (paths === undefined) return undefined;
    this.#indexes.delete(file);
    this.#indexes.set(file, { stamp, paths });
    if (this.#indexes.size > INDEXES_MAX) {
      const [oldest] = this.#indexes.keys();
      if (oldest !== undefined) this.#indexes.delete(oldest);
    }
    return paths;
  }
}

function isGitInternal(path: BytePath): boolean {
  return gitFolderOf(path) !== undefined;
}

function openWorkTree(folder: BytePath): WorkTree | undefined {
  const mark = pathText(joinPath(folder, ".git"));
  const stats = statOrNone(mark);
  if (stats === undefined) return undefined;
  if (stats.isDirectory()) return { root: folder, gitDir: mark };
  // Work trees and submodules have a file here that names their git folder.
  const link = /^gitdir: (.+)$/m.exec(readText(mark))?.[1];
  return link === undefined
    ? undefined
    : { root: folder, gitDir: pathText(pathFromText(link.trim(), pathText(folder))) };
}

/** Which of the paths git holds: their content by its id, or their name in the last commits. */
async function heldByGit(
  tree: WorkTree,
  questions: readonly GitQuestion[],
  signal: AbortSignal,
): Promise<ReadonlySet<BytePath>> {
  const lines: string[] = [];
  const askers: BytePath[] = [];
  for (const { path, gitBlobId } of questions) {
    const name = relativeTo(path, tree.root);
    const asked = [
      ...(gitBlobId === undefined ? [] : [gitBlobId]),
      ...(name.includes("\n") ? [] : [`HEAD:${name}`, `HEAD@{1}:${name}`, `ORIG_HEAD:${name}`]),
    ];
    for (const line of asked) {
      lines.push(line);
      askers.push(path);
    }
  }
  const command = ["git", "-C", pathText(tree.root), ...SAFE_GIT_FLAGS, "cat-file", "--batch-check"];
  const held = new Set<BytePath>();
  try {
    const result = await runProgram(command, {
      timeoutMs: GIT_TIMEOUT_MS,
      signal,
      env: SAFE_GIT_ENV,
      stdin: Buffer.from(`${lines.join("\n")}\n`, "latin1"),
    });
    for (const [index, line] of result.stdout.toString("latin1").split("\n").entries()) {
      const path = askers[index];
      if (path !== undefined && / blob \d+$/.test(line)) held.add(path);
    }
  } catch {
    signal.throwIfAborted(); // without git nothing is known
  }
  return held;
}

function readIndex(file: string): ReadonlySet<string> | undefined {
  try {
    return pathsInIndex(readFileSync(file));
  } catch {
    return undefined;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8").slice(0, 4096);
  } catch {
    return "";
  }
}

function mtimeMs(file: string): number {
  const stats = statOrNone(file);
  return stats === undefined ? 0 : Number(stats.mtimeNs / 1_000_000n);
}

function statOrNone(file: string): BigIntStats | undefined {
  try {
    return statSync(file, { bigint: true, throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
