/**
 * Reading a git repository without trusting it: only plumbing that reads, as the repository's owner, with nothing of
 * the caller's or the machine's git configuration, and with everything off that could run a program or reach a
 * network (hooks, fsmonitor, pagers, signatures, ssh, lazy fetch). No filter or textconv is ever run, so what is read
 * are the stored bytes. Names go through standard input, so that any bytes work.
 */
import { lstat, readFile } from "node:fs/promises";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { type BytePath, isTextPath, joinPath, parentPath, pathBytes, pathText, relativeTo } from "../../base/paths.js";
import { type SpawnResult, runProgram } from "../../base/spawn.js";
import { msOfNs, regularFileAt } from "../regular-file.js";

/** An object that a name in the repository stands for. */
export interface GitObject {
  readonly oid: string;
  readonly type: string;
  readonly sizeBytes: number;
}

/** A commit that touches the path. */
export interface GitCommit {
  readonly oid: string;
  readonly timeMs: number;
}

/** What lies between the stored bytes and the work tree's: other line ends, or something that we do not do. */
export interface Transformation {
  readonly kind: "crlf" | "unknown";
  /** As git calls it: `filter=lfs`. */
  readonly what: string;
}

const COMMAND_TIMEOUT_MS = 30_000;
/** Output of a listing; 16 MiB are about 300,000 commits. */
const LIST_BYTES_MAX = 16 * 2 ** 20;
/** One blob is held in memory while it is copied out. */
export const BLOB_BYTES_MAX = 256 * 2 ** 20;
/** Folders above the file in which a repository is looked for. */
const DEPTH_MAX = 64;

const SAFE_FLAGS = [
  ...["--no-optional-locks", "--no-pager", "--literal-pathspecs", "--no-replace-objects"],
  ...["core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat", "core.sshCommand=false"].flatMap(asFlag),
  ...["core.askPass=false", "core.editor=false", "protocol.allow=never", "log.showSignature=false"].flatMap(asFlag),
  ...["gc.auto=0", "maintenance.auto=false", "credential.helper=", "diff.external="].flatMap(asFlag),
];

const SAFE_ENVIRONMENT = {
  HOME: "/nonexistent",
  XDG_CONFIG_HOME: "/nonexistent",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_ATTR_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0",
  GIT_NO_LAZY_FETCH: "1",
  GIT_ALLOW_PROTOCOL: "",
  GIT_OPTIONAL_LOCKS: "0",
  LC_ALL: "C",
};

export class GitRepository {
  /** Top of the work tree. */
  readonly workTree: BytePath;
  /** Who owns the repository, and so could have written anything in it. */
  readonly ownerUid: number;
  readonly #ownerGid: number;

  private constructor(workTree: BytePath, ownerUid: number, ownerGid: number) {
    this.workTree = workTree;
    this.ownerUid = ownerUid;
    this.#ownerGid = ownerGid;
  }

  /** The repository whose work tree holds the path, whether the path exists or not; undefined when there is none. */
  static async holding(path: BytePath): Promise<GitRepository | undefined> {
    let folder = parentPath(path);
    for (let depth = 0; depth < DEPTH_MAX; depth += 1) {
      const found = await ownerOf(joinPath(folder, ".git"));
      if (found !== undefined) return new GitRepository(folder, found.uid, found.gid);
      if (folder === "/") return undefined;
      folder = parentPath(folder);
    }
    return undefined;
  }

  /** The path as git names it; undefined when git cannot be asked about it (names with line feeds, odd work trees). */
  nameOf(path: BytePath): string | undefined {
    const name = relativeTo(path, this.workTree);
    return name.includes("\n") || !isTextPath(this.workTree) ? undefined : name;
  }

  /** What the names stand for, in their order; undefined for those that stand for nothing. Bytes as characters. */
  async resolve(names: readonly string[], signal: AbortSignal): Promise<readonly (GitObject | undefined)[]> {
    if (names.length === 0) return [];
    const { stdout } = await this.#run(["cat-file", "--batch-check"], signal, lines(names));
    const answers = stdout.toString("latin1").split("\n");
    return names.map((_, index) => {
      const match = /^([0-9a-f]{40,64}) (\w+) (\d+)$/.exec(answers[index] ?? "");
      if (match?.[1] === undefined || match[2] === undefined) return undefined;
      return { oid: match[1], type: match[2], sizeBytes: Number(match[3]) };
    });
  }

  /** Commits that touch the name, newest first: of all refs and reflogs, or of the given commits only. */
  async commitsTouching(
    name: string,
    countMax: number,
    from: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly GitCommit[]> {
    const starts = from.length === 0 ? ["--all", "--reflog"] : [];
    const args = [
      "rev-list",
      "--ignore-missing",
      "--full-history",
      "--date-order",
      "--timestamp",
      `--max-count=${String(countMax)}`,
    ];
    const result = await this.#run([...args, ...starts, "--stdin"], signal, lines([...from, "--", name]));
    return result.stdout
      .toString("latin1")
      .split("\n")
      .flatMap((line) => {
        const match = /^(\d+) ([0-9a-f]{40,64})$/.exec(line);
        return match?.[2] === undefined ? [] : [{ oid: match[2], timeMs: Number(match[1]) * 1000 }];
      });
  }

  /** Commits of the stash: each entry's own, that of its index and that of its untracked files. */
  async stashCommits(countMax: number, signal: AbortSignal): Promise<readonly GitCommit[]> {
    const args = ["rev-list", "--walk-reflogs", "--parents", "--timestamp", `--max-count=${String(countMax)}`];
    const result = await this.#run([...args, "refs/stash", "--"], signal);
    return result.stdout
      .toString("latin1")
      .split("\n")
      .flatMap((line) => {
        const [time, entry, , ...saved] = line.trim().split(" ");
        return [entry, ...saved].flatMap((oid) => (oid === undefined ? [] : [{ oid, timeMs: Number(time) * 1000 }]));
      });
  }

  /** Objects that nothing refers to: what was staged and overwritten, dropped stashes, deleted branches. */
  async dangling(
    countMax: number,
    signal: AbortSignal,
  ): Promise<{ readonly commits: string[]; readonly blobs: string[] }> {
    const args = ["fsck", "--no-reflogs", "--dangling", "--no-progress", "--connectivity-only", "--no-full"];
    const { stdout } = await this.#run(args, signal);
    const commits: string[] = [];
    const blobs: string[] = [];
    for (const [, type, oid] of stdout.toString("latin1").matchAll(/^dangling (commit|blob) ([0-9a-f]{40,64})$/gm)) {
      const list = type === "commit" ? commits : blobs;
      if (oid !== undefined && list.length < countMax) list.push(oid);
    }
    return { commits, blobs };
  }

  /** The stored bytes of a blob. Throws LIMIT_REACHED beyond `BLOB_BYTES_MAX`, NOT_FOUND when it is gone. */
  async blob(oid: string, signal: AbortSignal): Promise<Buffer> {
    const result = await this.#run(["cat-file", "blob", oid], signal, undefined, BLOB_BYTES_MAX);
    if (result.exitCode !== 0) throw new HoldfastError("NOT_FOUND", `git has no blob ${oid}`);
    return result.stdout;
  }

  /** When a loose object was written, ms; undefined for packed ones. */
  async writtenAtMs(oid: string, signal: AbortSignal): Promise<number | undefined> {
    const objects = await this.gitPath("objects", signal);
    const file = objects === undefined ? undefined : joinPath(joinPath(objects, oid.slice(0, 2)), oid.slice(2));
    const stat = file === undefined ? undefined : await regularFileAt(file);
    return stat === undefined ? undefined : msOfNs(stat.mtimeNs);
  }

  /** Absolute path of a part of the git folder, such as `objects` (linked work trees share it). */
  async gitPath(part: string, signal: AbortSignal): Promise<BytePath | undefined> {
    const result = await this.#run(["rev-parse", "--git-path", part], signal);
    const text = result.stdout.toString("latin1").replace(/\n$/, "");
    if (result.exitCode !== 0 || text === "") return undefined;
    return text.startsWith("/") ? (text as BytePath) : joinPath(this.workTree, text);
  }

  /** What git does to the stored bytes when it writes the work tree's; undefined when nothing. */
  async transformationOf(name: string, signal: AbortSignal): Promise<Transformation | undefined> {
    const wanted = ["filter", "ident", "working-tree-encoding", "eol", "text"];
    const answer = await this.#run(
      ["check-attr", "-z", "--stdin", ...wanted],
      signal,
      Buffer.from(`${name}\0`, "latin1"),
    );
    const fields = answer.stdout.toString("latin1").split("\0");
    const attribute = (wantedName: string): string | undefined =>
      fields[fields.findIndex((field, index) => index % 3 === 1 && field === wantedName) + 1];
    for (const changing of ["filter", "ident", "working-tree-encoding"]) {
      const value = attribute(changing);
      if (value !== undefined && value !== "unspecified" && value !== "unset")
        return { kind: "unknown", what: `${changing}=${value}` };
    }
    if (attribute("text") === "unset") return undefined; // `-text`: line ends are left alone
    if (attribute("eol") === "crlf") return { kind: "crlf", what: "eol=crlf" };
    if (attribute("eol") === "lf") return undefined;
    const autocrlf = await this.#run(["config", "--get", "core.autocrlf"], signal);
    const isOn = /^(?:true|yes|on|1)$/i.test(autocrlf.stdout.toString("latin1").trim());
    return isOn ? { kind: "crlf", what: "core.autocrlf=true" } : undefined;
  }

  async #run(
    args: readonly string[],
    signal: AbortSignal,
    stdin?: Buffer,
    outputBytesMax = LIST_BYTES_MAX,
  ): Promise<SpawnResult> {
    const workTree = pathText(this.workTree);
    const isOther = process.getuid?.() === 0 && this.ownerUid !== 0;
    return await runProgram(["git", "-C", workTree, ...SAFE_FLAGS, "-c", `safe.directory=${workTree}`, ...args], {
      timeoutMs: COMMAND_TIMEOUT_MS,
      signal,
      env: SAFE_ENVIRONMENT,
      outputBytesMax,
      ...(stdin === undefined ? {} : { stdin }),
      ...(isOther ? { user: { uid: this.ownerUid, gid: this.#ownerGid } } : {}),
    });
  }
}

/** The content of an LFS pointer: digest and size of the real content; undefined for anything else. */
export function lfsPointer(content: Buffer): { readonly sha256: string; readonly sizeBytes: number } | undefined {
  if (content.length > 1024 || !content.toString("latin1").startsWith("version https://git-lfs.github.com/spec/"))
    return undefined;
  const sha256 = /^oid sha256:([0-9a-f]{64})$/m.exec(content.toString("latin1"))?.[1];
  const size = /^size (\d+)$/m.exec(content.toString("latin1"))?.[1];
  return sha256 === undefined || size === undefined ? undefined : { sha256, sizeBytes: Number(size) };
}

/** Text as a work tree with CRLF line ends has it; what looks binary to git, or has such ends already, stays as it is. */
export function withCrlf(content: Buffer): Buffer {
  if (content.subarray(0, BINARY_LOOK_BYTES).includes(0) || content.includes("\r")) return content;
  return Buffer.from(content.toString("latin1").replaceAll("\n", "\r\n"), "latin1");
}

/** git takes a file with a NUL among its first bytes for binary. */
const BINARY_LOOK_BYTES = 8000;

/** Owner of a `.git` folder, or of a `.git` file that names one. */
async function ownerOf(gitPath: BytePath): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  try {
    const stat = await lstat(pathBytes(gitPath));
    if (stat.isFile() && !(await readFile(pathBytes(gitPath), "latin1")).startsWith("gitdir:")) return undefined;
    return stat.isDirectory() || stat.isFile() ? { uid: stat.uid, gid: stat.gid } : undefined;
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "EACCES"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}

function asFlag(setting: string): readonly string[] {
  return ["-c", setting];
}

function lines(names: readonly string[]): Buffer {
  return Buffer.from(names.map((name) => `${name}\n`).join(""), "latin1");
}
