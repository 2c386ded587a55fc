/**
 * Reading Debian's package database: who owns a file, at which version, and what checksum the package gives it; and
 * taking a single package file apart. Reads with `dpkg-query` and `dpkg-deb` only; nothing is installed or changed.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError, errnoOf } from "../../base/errors.js";
import { type BytePath, isTextPath, pathText } from "../../base/paths.js";
import { type SpawnResult, runProgram } from "../../base/spawn.js";

const QUERY_TIMEOUT_MS = 30_000;
const UNPACK_TIMEOUT_MS = 5 * 60_000;
const LIST_BYTES_MAX = 16 * 2 ** 20;
/** Folders that moved below `/usr` while packages still name them by their old place. */
const MERGED = /^\/(?:usr\/)?((?:bin|sbin|lib|lib32|lib64|libx32)\/.*)$/s;

/** A file as its package knows it. */
export interface PackagedFile {
  readonly package: string;
  readonly architecture: string;
  readonly version: string;
  /** As the package names it: absolute, `/bin/ls` where the system has `/usr/bin/ls`. */
  readonly name: string;
  /** 32 hex. */
  readonly md5: string;
  /** A configuration file: people change these. */
  readonly isConfiguration: boolean;
}

export class DpkgDatabase {
  readonly #root: string;

  /** `root` is the top of the system that the database describes. */
  constructor(root: string) {
    this.#root = root;
  }

  /** The file below the root as packages name it; undefined when it lies elsewhere or its name is no text. */
  nameOf(path: BytePath): string | undefined {
    const text = pathText(path);
    if (!isTextPath(path) || text.includes("\n")) return undefined;
    if (this.#root === "/") return text;
    return text.startsWith(`${this.#root}/`) ? text.slice(this.#root.length) : undefined;
  }

  /** What owns the name; undefined when nothing does. `note` hears why it cannot be said although something does. */
  async owning(name: string, note: (text: string) => void, signal: AbortSignal): Promise<PackagedFile | undefined> {
    const merged = MERGED.exec(name)?.[1];
    const names = merged === undefined ? [name] : [`/usr/${merged}`, `/${merged}`];
    const found = await this.#query(["-S", "--", ...names.map(literalPattern)], signal);
    for (const line of found.stdout.toString("utf8").split("\n")) {
      if (/^(?:diversion by|local diversion) /.test(line)) {
        note(`dpkg has it diverted (${line.trim()})`);
        return undefined;
      }
      const owned = names.find((each) => line.endsWith(`: ${each}`));
      if (owned === undefined) continue;
      const [owner = ""] = line.slice(0, -owned.length - 2).split(", ");
      return await this.#described(owner, owned, note, signal);
    }
    return undefined;
  }

  async #described(
    owner: string,
    name: string,
    note: (text: string) => void,
    signal: AbortSignal,
  ): Promise<PackagedFile | undefined> {
    const format = "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Status}\\n${Conffiles}\\n";
    const { stdout } = await this.#query(["-W", `-f=${format}`, "--", owner], signal);
    const [head = "", ...configurations] = stdout.toString("utf8").split("\n");
    const [packageName = "", architecture = "", version = "", state] = head.split("\t");
    if (state !== "installed") {
      note(`the package ${owner} is not wholly installed (${state ?? "unknown"})`);
      return undefined;
    }
    const about = { package: packageName, architecture, version, name };
    const ofConfiguration = configurations.map((line) => / (.*) ([0-9a-f]{32})( obsolete)?$/.exec(line));
    const configured = ofConfiguration.find((match) => match?.[1] === name)?.[2];
    if (configured !== undefined) return { ...about, md5: configured, isConfiguration: true };
    const md5 = await this.#md5Of(packageName, architecture, name);
    if (md5 !== undefined) return { ...about, md5, isConfiguration: false };
    note(`the package ${owner} has no checksum for it`);
    return undefined;
  }

  async #md5Of(packageName: string, architecture: string, name: string): Promise<string | undefined> {
    for (const stem of [packageName, `${packageName}:${architecture}`]) {
      const sums = await textOf(join(this.#root, "var/lib/dpkg/info", `${stem}.md5sums`));
      const line = sums?.split("\n").find((each) => each.slice(34) === name.slice(1));
      const md5 = line?.slice(0, 32);
      if (md5 !== undefined && /^[0-9a-f]{32}$/.test(md5)) return md5;
    }
    return undefined;
  }

  async #query(args: readonly string[], signal: AbortSignal): Promise<SpawnResult> {
    const database = join(this.#root, "var/lib/dpkg");
    const command = ["dpkg-query", `--admindir=${database}`, ...args];
    return await runProgram(command, {
      timeoutMs: QUERY_TIMEOUT_MS,
      signal,
      outputBytesMax: LIST_BYTES_MAX,
      env: { LC_ALL: "C", COLUMNS: "200" },
    });
  }
}

/** The file name that a package has in apt's cache. */
export function archiveName(file: PackagedFile): string {
  return `${file.package}_${file.version.replaceAll(":", "%3a")}_${file.architecture}.deb`;
}

/** Unpacks a package below `folder`. Throws RECOVERY_FAILED when it is another one, or broken. */
export async function unpackArchive(
  archive: string,
  file: PackagedFile,
  folder: string,
  signal: AbortSignal,
): Promise<void> {
  const options = { timeoutMs: UNPACK_TIMEOUT_MS, signal, outputBytesMax: LIST_BYTES_MAX, env: { LC_ALL: "C" } };
  const fields = await runProgram(
    ["dpkg-deb", "--show", "--showformat=${Package}\\n${Version}\\n${Architecture}\\n", archive],
    options,
  );
  const wanted = `${file.package}\n${file.version}\n${file.architecture}\n`;
  if (fields.exitCode !== 0 || fields.stdout.toString("utf8") !== wanted)
    throw new HoldfastError("RECOVERY_FAILED", `${archive} is not ${file.package} ${file.version}`);
  const unpacked = await runProgram(["dpkg-deb", "--extract", archive, folder], options);
  if (unpacked.exitCode !== 0)
    throw new HoldfastError("RECOVERY_FAILED", `${archive} cannot be unpacked: ${unpacked.stderr.trim().slice(-300)}`);
}

/** dpkg-query reads `*`, `?`, `[` and `\` as a pattern. */
function literalPattern(name: string): string {
  return name.replace(/[*?[\\]/g, "\\$&");
}

async function textOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (["ENOENT", "EACCES"].includes(errnoOf(error) ?? "")) return undefined;
    throw error;
  }
}
