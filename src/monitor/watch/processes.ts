/**
 * Which program a process runs and for whom. A program such as `rm` is gone when its deed is read, so what is started
 * is remembered at its start; of processes that run longer /proc tells. Numbers are used again: a start replaces what
 * was known.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { basename, dirname } from "node:path";
import type { Actor } from "../../base/events.js";
import { type BytePath, isWithin } from "../../base/paths.js";
import { processStat } from "../../base/process-stat.js";
import type { Fork } from "./forks.js";

/** Starts that are remembered; the oldest go first. About 200 bytes each. */
const PROCESSES_MAX = 8192;
/** A script names itself, then its interpreter, then the loader, all within this time, ms. */
const ONE_START_MS = 50;
/** Among so many words of its command line an interpreter names its script: itself, the options of the `#!` line, the script. */
const SCRIPT_WORDS = 3;
const PARENTS_MAX = 32_768;
const PROGRAM_LENGTH_MAX = 64;
/** What a tool started works for it so long; what runs on, such as a server that `make run` began, works for itself, ms. */
const WORKS_FOR_MS = 600_000;
const USERS_KEEP_MS = 60_000;
const WARM_UP_TURNS = 20;
const NOBODY_LOGGED_IN = 0xffff_ffff;
/** Tools whose removals are meant, when they lie in a folder that only the system's owner writes. */
const TOOLS = new Set(["git", "make", "gmake", "ninja", "dpkg", "apt", "apt-get", "rpm", "dnf", "pacman", "logrotate"]);
const SYSTEM_FOLDERS = /^(?:\/usr)?\/(?:local\/)?s?bin$|^\/usr\/lib\/git-core$/;
/** Where programs start from, on whatever file system each of these lies; links among them lead to another of them. */
export const PROGRAM_FOLDERS = [
  "/usr/bin",
  "/usr/sbin",
  "/bin",
  "/sbin",
  "/usr/local/bin",
  "/usr/lib/git-core",
] as const;

/** Which tool a process is, or works for and where. */
type Work = Pick<Actor, "tool" | "worksFor">;

interface Known extends Actor {
  /** Of a tool: where it was started, and the folder of the tool that it works for itself. */
  readonly folder: BytePath | undefined;
  readonly outerFolder: BytePath | undefined;
  readonly startedMs: number;
  /** The loader came: the next program is another start. */
  readonly isComplete: boolean;
  /**
   * The name that followed in the same start: of a script its interpreter. But the kernel tells what a process did twice
   * (to begin bash, to load its libraries) only once when it was not read in between: so it may be a start of its own, of
   * the program that a script handed over to.
   */
  readonly next?: { readonly program: string; readonly tool: string | undefined } | undefined;
}

/** What /proc says of a process: its `status` and `loginuid`, where it is, and where its parent is. */
interface Glimpse {
  readonly status: string;
  readonly login: string;
  readonly folder: BytePath | undefined;
  readonly parent: number;
  readonly parentFolder: BytePath | undefined;
}

export class ProcessBook {
  readonly #known = new Map<number, Known>();
  /** Who began whom, the oldest first. */
  readonly #parents = new Map<number, number>();
  /** Of processes that may be about to end. */
  readonly #glimpses = new Map<number, Glimpse>();
  readonly #procFolder: string;
  readonly #monotonicMs: () => number;
  #users = new Map<number, string>();
  #usersReadMs = -Infinity;

  constructor(monotonicMs: () => number, procFolder = "/proc") {
    this.#monotonicMs = monotonicMs;
    this.#procFolder = procFolder;
  }

  /** A process began another. */
  forked({ parent, child }: Fork): void {
    this.#parents.delete(child);
    this.#parents.set(child, parent);
    if (this.#parents.size <= PARENTS_MAX) return;
    for (const oldest of this.#parents.keys()) {
      this.#parents.delete(oldest);
      return;
    }
  }

  /** Reads all at once that is needed later and hardly anything else: some programs end within a millisecond. */
  glimpse(pid: number): void {
    this.#glimpses.set(pid, this.#glimpseOf(pid));
  }

  /** Forgets what was glimpsed; to be called when it was taken into account. */
  closeEyes(): void {
    this.#glimpses.clear();
  }

  /** Does once what is slow when it is done for the first time. */
  warmUp(): void {
    for (let turn = 0; turn < WARM_UP_TURNS; turn += 1) this.glimpse(process.pid);
    this.#about(process.pid, undefined);
    this.closeEyes();
  }

  /** A process begins to run the program of this name; `folder` holds it, undefined when that is not known. */
  started(pid: number, program: string, folder: string | undefined): void {
    const nowMs = this.#monotonicMs();
    const before = this.#known.get(pid);
    const isSameStart = before !== undefined && !before.isComplete && nowMs - before.startedMs < ONE_START_MS;
    const isLoader = /^ld-|^ld\.so|^ld64|^ld-musl/.test(program);
    if (before !== undefined && isLoader) this.#known.set(pid, { ...before, isComplete: true });
    else if (isSameStart)
      this.#known.set(pid, { ...before, next: { program: clean(program), tool: toolAt(folder, program) } });
    if (isSameStart || isLoader) return;
    const about = this.#about(pid, toolAt(folder, program));
    this.#remember(pid, { ...about, pid, program: clean(program), startedMs: nowMs, isComplete: false });
  }

  /** What is known of a process. */
  of(pid: number): Actor {
    let known = this.#known.get(pid);
    if (known === undefined) {
      const program = clean(this.#read(pid, "comm").trim());
      const about = this.#about(pid, this.#toolRunning(pid));
      known = { ...about, pid, program, startedMs: this.#monotonicMs(), isComplete: true };
      if (program !== "") this.#remember(pid, known);
    }
    if (known.next !== undefined) {
      known = this.#withoutDoubt(known);
      this.#known.set(pid, known);
    }
    if (known.startTicks === undefined && this.#known.has(pid)) {
      known = { ...known, startTicks: processStat(pid, this.#procFolder)?.startTicks };
      this.#known.set(pid, known);
    }
    const { program, user, loginUser, startTicks } = known;
    const start = startTicks === undefined ? {} : { startTicks };
    return { pid, program, user, loginUser, ...this.#workOf(pid), ...start };
  }

  /** Decides which of two names is the program's; of one that has ended the first. */
  #withoutDoubt({ next, ...known }: Known): Known {
    const words = this.#read(known.pid, "cmdline").split("\0").slice(0, SCRIPT_WORDS);
    const isScript = words.some((word) => clean(basename(word)) === known.program);
    if (next === undefined || isScript || words.join("") === "") return known;
    return { ...known, program: next.program, tool: next.tool ?? known.tool };
  }

  #remember(pid: number, known: Known): void {
    this.#known.delete(pid);
    this.#known.set(pid, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > PROCESSES_MAX && oldest !== undefined) this.#known.delete(oldest);
  }

  /** For whom it runs, and the tool: its own, or that of the process that started it. */
  #about(pid: number, ownTool: string | undefined): Omit<Known, "pid" | "program" | "startedMs" | "isComplete"> {
    const glimpse = this.#glimpses.get(pid) ?? this.#glimpseOf(pid);
    const uid = /^Uid:\s+(\d+)/m.exec(glimpse.status)?.[1];
    const { tool, worksFor } = this.#workFor(glimpse);
    return {
      user: this.#userOf(uid),
      loginUser: this.#userOf(glimpse.login.trim()),
      tool: ownTool ?? tool,
      ...(ownTool !== undefined || worksFor === undefined ? {} : { worksFor }),
      folder: glimpse.folder,
      outerFolder: worksFor?.folder,
    };
  }

  /** What a process works for whose parent is, or works for, a tool. A tool may go elsewhere before it starts anything. */
  #workFor({ parent, parentFolder }: Glimpse): Work {
    const { tool, worksFor } = this.#workOf(parent);
    if (tool === undefined || worksFor !== undefined) return { tool, ...(worksFor === undefined ? {} : { worksFor }) };
    const known = this.#known.get(parent);
    const folder = parentFolder ?? known?.folder;
    const outer = known?.outerFolder;
    const isInOuter = folder !== undefined && outer !== undefined && isWithin(folder, outer);
    return { tool, worksFor: { folder: isInOuter ? outer : folder } };
  }

  /** What a process is or works for; of one that began long ago only what it runs itself, for its number may be another's. */
  #workOf(pid: number): Work {
    const known = this.#known.get(pid);
    const isFresh = known !== undefined && this.#monotonicMs() - known.startedMs < WORKS_FOR_MS;
    if (!isFresh) return { tool: this.#toolRunning(pid) };
    return { tool: known.tool, ...(known.worksFor === undefined ? {} : { worksFor: known.worksFor }) };
  }

  #toolRunning(pid: number): string | undefined {
    try {
      const path = readlinkSync(`${this.#procFolder}/${String(pid)}/exe`, "latin1");
      return toolAt(dirname(path), basename(path));
    } catch {
      return undefined;
    }
  }

  #glimpseOf(pid: number): Glimpse {
    const [status, login] = [this.#read(pid, "status"), this.#read(pid, "loginuid")];
    const parent = Number(/^PPid:\s+(\d+)/m.exec(status)?.[1] ?? this.#parents.get(pid) ?? 0);
    const parentFolder = this.#folderOf(parent);
    // What has ended already began where its parent is, unless it was sent elsewhere.
    return { status, login, folder: status === "" ? parentFolder : this.#folderOf(pid), parent, parentFolder };
  }

  /** Where a process is; undefined when it ended, or that folder is gone. */
  #folderOf(pid: number): BytePath | undefined {
    try {
      const folder = readlinkSync(`${this.#procFolder}/${String(pid)}/cwd`, "latin1");
      return folder.endsWith(" (deleted)") ? undefined : (folder as BytePath);
    } catch {
      return undefined;
    }
  }

  #userOf(text: string | undefined): string | undefined {
    const uid = Number(text);
    if (text === undefined || text === "" || uid === NOBODY_LOGGED_IN) return undefined;
    if (this.#monotonicMs() - this.#usersReadMs > USERS_KEEP_MS) this.#readUsers();
    return this.#users.get(uid) ?? text;
  }

  #readUsers(): void {
    this.#usersReadMs = this.#monotonicMs();
    const lines = readOrNothing("/etc/passwd").split("\n");
    this.#users = new Map(lines.map((line) => line.split(":")).map((fields) => [Number(fields[2]), fields[0] ?? ""]));
  }

  #read(pid: number, name: string): string {
    return readOrNothing(`${this.#procFolder}/${String(pid)}/${name}`);
  }
}

function toolAt(folder: string | undefined, program: string): string | undefined {
  return folder !== undefined && SYSTEM_FOLDERS.test(folder) && TOOLS.has(program) ? program : undefined;
}

function readOrNothing(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** Anybody can name a program as he likes: nothing of it may reach a terminal unseen. */
function clean(program: string): string {
  return program.replace(/[^\x20-\x7e]/g, "?").slice(0, PROGRAM_LENGTH_MAX);
}
