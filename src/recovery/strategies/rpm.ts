/**
 * Reading the database of rpm: who owns a file, at which version, and what digest the package gives it; and taking a
 * single file out of a package file. Reads with `rpm -q` and `rpm2cpio` only; nothing is installed or changed.
 */
import { join } from "node:path";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, isTextPath, joinPath, pathFromText, pathText } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";
import { regularFileAt } from "../regular-file.js";
import { namesIn } from "./trash.js";

const QUERY_TIMEOUT_MS = 30_000;
const UNPACK_TIMEOUT_MS = 5 * 60_000;
const LIST_BYTES_MAX = 32 * 2 ** 20;
/** What a package unpacks to is held in memory while one file is taken out of it. */
const UNPACKED_BYTES_MAX = 512 * 2 ** 20;
/** Where systems keep the database, below their top. */
const DATABASES = ["var/lib/rpm", "usr/lib/sysimage/rpm"];
const DATABASE_FILES = ["rpmdb.sqlite", "Packages.db", "Packages"];
/** Where dnf, yum and zypper keep package files; `*` is any one folder. */
const CACHES = [
  "var/cache/dnf/*/packages",
  "var/cache/libdnf5/*/packages",
  "var/cache/yum/*/packages",
  "var/cache/yum/*/*/*/packages",
  "var/cache/zypp/packages/*/*",
];
const CACHE_FOLDERS_MAX = 500;
/** Names of digests as Node has them, by rpm's number. */
const DIGESTS: Readonly<Record<string, string>> = { 1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512" };
const HEAD_FORMAT = "P\\t%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}\\t%{RELEASE}\\t%{ARCH}\\t%{FILEDIGESTALGO}\\n";
const FILE_FORMAT = "[F\\t%{FILEDIGESTS}\\t%{FILEFLAGS:fflags}\\t%{FILENAMES}\\n]";

/** A file as its rpm package knows it. */
export interface RpmFile {
  readonly package: string;
  /** `version-release`, as people write it. */
  readonly version: string;
  readonly architecture: string;
  /** Name, epoch, version, release and architecture: the same for the very same package only. */
  readonly identity: string;
  /** As the package names it, absolute. */
  readonly name: string;
  /** Name of the digest for Node, and its value in hex. */
  readonly algorithm: string;
  readonly digest: string;
  readonly isConfiguration: boolean;
}

/** The package that owns a path of the system below `root`; undefined when none does, or this is no system of rpm's. */
export async function rpmFileAt(root: string, path: BytePath, signal: AbortSignal): Promise<RpmFile | undefined> {
  const database = await databaseOf(root);
  const text = pathText(path);
  if (database === undefined || !isTextPath(path) || /[\n\t]/.test(text)) return undefined;
  const name = root === "/" ? text : text.startsWith(`${root}/`) ? text.slice(root.length) : undefined;
  if (name === undefined) return undefined;
  const command = ["rpm", `--dbpath=${database}`, "-q", "-f", `--qf=${HEAD_FORMAT}${FILE_FORMAT}`, "--", name];
  const { stdout, exitCode } = await runProgram(command, {
    ...{ timeoutMs: QUERY_TIMEOUT_MS, signal, outputBytesMax: LIST_BYTES_MAX, env: { LC_ALL: "C" } },
  });
  return exitCode === 0 ? ownedIn(stdout.toString("utf8"), name) : undefined;
}

/** Where package files of the system below `root` may lie. */
export async function rpmCaches(root: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const pattern of CACHES) {
    let folders: readonly BytePath[] = [pathFromText(root)];
    for (const part of pattern.split("/")) {
      const next: BytePath[] = [];
      for (const folder of folders)
        next.push(...(part === "*" ? await namesIn(folder) : [part]).map((name) => joinPath(folder, name)));
      folders = next.slice(0, CACHE_FOLDERS_MAX);
    }
    found.push(...folders.map(pathText));
  }
  return found;
}

/** The file name that package files have. */
export function rpmArchiveName(file: RpmFile): string {
  return `${file.package}-${file.version}.${file.architecture}.rpm`;
}

/** The bytes of the file out of a package file. Throws RECOVERY_FAILED when that is another package, or broken. */
export async function fileInRpm(archive: string, file: RpmFile, signal: AbortSignal): Promise<Buffer | undefined> {
  const options = { timeoutMs: UNPACK_TIMEOUT_MS, signal, env: { LC_ALL: "C" } };
  const format = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}\\t%{RELEASE}\\t%{ARCH}";
  const about = await runProgram(["rpm", "-q", "-p", "--nosignature", `--qf=${format}`, "--", archive], options);
  if (about.exitCode !== 0 || about.stdout.toString("utf8") !== file.identity)
    throw new HoldfastError("RECOVERY_FAILED", `${archive} is not ${file.package} ${file.version}`);
  const unpacked = await runProgram(["rpm2cpio", archive], { ...options, outputBytesMax: UNPACKED_BYTES_MAX });
  if (unpacked.exitCode !== 0)
    throw new HoldfastError("RECOVERY_FAILED", `${archive} cannot be unpacked: ${unpacked.stderr.trim().slice(-300)}`);
  return fileInCpio(unpacked.stdout, Buffer.from(`.${file.name}`, "utf8"));
}

/**
 * The content of a regular file of a cpio archive of the kind "newc"; undefined when there is none of that name, or the
 * archive is of another kind, or torn. Of names of one inode only the last has the content.
 */
export function fileInCpio(archive: Buffer, name: Buffer): Buffer | undefined {
  let wantedInode: number | undefined;
  for (let at = 0; at + CPIO_HEADER_BYTES <= archive.length;) {
    if (!/^07070[12]$/.test(archive.toString("latin1", at, at + 6))) return undefined;
    const field = (index: number): number => {
      const start = at + 6 + 8 * index;
      return Number.parseInt(archive.toString("latin1", start, start + 8), 16);
    };
    const [inode, mode, sizeBytes, nameBytes] = [field(0), field(1), field(6), field(11)];
    const content = at + padded(CPIO_HEADER_BYTES + nameBytes);
    const next = content + padded(sizeBytes);
    if (!Number.isInteger(next) || next <= at || content + sizeBytes > archive.length) return undefined;
    const found = archive.subarray(at + CPIO_HEADER_BYTES, at + CPIO_HEADER_BYTES + nameBytes - 1);
    const isRegular = (mode & 0o170000) === 0o100000;
    if (isRegular && found.equals(name)) wantedInode = inode;
    const isLastName = field(4) < 2 || sizeBytes > 0;
    if (isRegular && inode === wantedInode && isLastName) return archive.subarray(content, content + sizeBytes);
    at = next;
  }
  return undefined;
}

const CPIO_HEADER_BYTES = 110;

function padded(lengthBytes: number): number {
  return Math.ceil(lengthBytes / 4) * 4;
}

async function databaseOf(root: string): Promise<string | undefined> {
  for (const folder of DATABASES) {
    for (const file of DATABASE_FILES) {
      const stat = await regularFileAt(pathFromText(join(root, folder, file)));
      if (stat !== undefined && stat.size > 0n) return join(root, folder);
    }
  }
  return undefined;
}

/** The first package of the listing that has the name with a digest; a ghost's content is none of the package's. */
function ownedIn(listing: string, name: string): RpmFile | undefined {
  let head: readonly string[] = [];
  for (const line of listing.split("\n")) {
    const [what, ...fields] = line.split("\t");
    if (what === "P") head = fields;
    const [digest = "", flags = "", fileName] = fields;
    if (what !== "F" || fileName !== name || !/^[0-9a-f]{32,128}$/.test(digest) || flags.includes("g")) continue;
    const [packageName = "", , version = "", release = "", architecture = "", algorithm = ""] = head;
    return {
      package: packageName,
      version: `${version}-${release}`,
      architecture,
      identity: head.slice(0, 5).join("\t"),
      name,
      algorithm: DIGESTS[algorithm] ?? "md5",
      digest,
      isConfiguration: flags.includes("c"),
    };
  }
  return undefined;
}
