/**
 * Whether an installer was at work on a missing path: a package manager that holds its lock, or npm rebuilding
 * `node_modules`. Ordinary tools leave a file absent for milliseconds; installers for seconds.
 */
import { lstatSync, readFileSync, statSync } from "node:fs";
import { type BytePath, isWithin, joinPath, pathBytes } from "../../base/paths.js";

const LOCKS: readonly (readonly [name: string, file: string])[] = [
  ["dpkg", "/var/lib/dpkg/lock"],
  ["apt", "/var/lib/dpkg/lock-frontend"],
  ["apt", "/var/cache/apt/archives/lock"],
  ["rpm", "/var/lib/rpm/.rpm.lock"],
  ["rpm", "/usr/lib/sysimage/rpm/.rpm.lock"],
];
/** Where packages put files; a lock says nothing about anybody's documents. */
const PACKAGE_FOLDERS = ["/usr", "/etc", "/lib", "/lib64", "/bin", "/sbin", "/var", "/opt", "/boot"] as BytePath[];
/** npm writes its hidden lockfile at the end of an install; until then it is absent or old. */
const NPM_RECENT_MS = 10_000;

/** Package managers at work, looked for once for a round of questions. */
export class InstallersAtWork {
  #holder: { readonly name: string | undefined } | undefined;

  /** The package manager that holds its lock now, for a path that packages may own. */
  packageManager(path: BytePath): string | undefined {
    if (!isPackageFolder(path)) return undefined;
    this.#holder ??= { name: lockHolder() };
    return this.#holder.name;
  }
}

/** True for a path that packages may own. */
export function isPackageFolder(path: BytePath): boolean {
  return PACKAGE_FOLDERS.some((folder) => isWithin(path, folder));
}

function lockHolder(): string | undefined {
  const locked = lockedInodes();
  for (const [name, file] of LOCKS) {
    const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
    if (stats !== undefined && locked.has(inodeKey(stats.dev, stats.ino))) return name;
  }
  return undefined;
}

/** Why npm (or one like it) took this path away, or undefined. */
export function rebuiltModules(path: BytePath, nowMs: number): string | undefined {
  const cut = `${path}/`.indexOf("/node_modules/");
  if (cut === -1) return undefined;
  const modules = path.slice(0, cut + "/node_modules".length) as BytePath;
  const lockfile = lstatSync(pathBytes(joinPath(modules, ".package-lock.json")), { throwIfNoEntry: false });
  if (lockfile === undefined) return "node_modules was removed or is being rebuilt by the package manager";
  if (nowMs - lockfile.mtimeMs < NPM_RECENT_MS) return "node_modules was rebuilt by the package manager just now";
  return undefined;
}

/** Device and inode of every file that somebody holds a write lock on, from /proc/locks (`fd:01:1234`, hex device). */
function lockedInodes(): ReadonlySet<string> {
  const keys = new Set<string>();
  let text: string;
  try {
    text = readFileSync("/proc/locks", "latin1");
  } catch {
    return keys;
  }
  for (const line of text.split("\n")) {
    const match = / WRITE +\d+ ([0-9a-f]+):([0-9a-f]+):(\d+) /.exec(line);
    if (match === null) continue;
    keys.add(
      `${String(Number.parseInt(match[1] ?? "", 16))}:${String(Number.parseInt(match[2] ?? "", 16))}:${match[3] ?? ""}`,
    );
  }
  return keys;
}

/** Major and minor of a Linux device number with its inode. */
function inodeKey(dev: bigint, ino: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn);
  const minor = (dev & 0xffn) | ((dev >> 12n) & ~0xffn);
  return `${String(major)}:${String(minor)}:${String(ino)}`;
}
