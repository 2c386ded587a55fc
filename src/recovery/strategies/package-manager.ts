/**
 * `package_manager`: a file that a package of dpkg or rpm installed, out of the very same version of that package: from
 * the caches of apt, dnf, yum and zypper, from named folders, or (only when allowed) downloaded by apt. The bytes count
 * only if they have the checksum that the package database has for the file.
 * Parameters: `archives` (more folders with package files), `download` (default false, apt only), `root` (top of the
 * system that dpkg or rpm manages, default `/`).
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm, stat as statPath } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, joinPath, pathFromText } from "../../base/paths.js";
import { runProgram } from "../../base/spawn.js";
import { nodeFromStat } from "../../engine/metadata.js";
import { ParameterReader, type Parameters } from "../parameters.js";
import { msOfNs, readRegularFile, regularFileAt } from "../regular-file.js";
import type { Candidate, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { DpkgDatabase, type PackagedFile, archiveName, unpackArchive } from "./dpkg.js";
import { quoted } from "./latest-backup.js";
import { type RpmFile, fileInRpm, rpmArchiveName, rpmCaches, rpmFileAt } from "./rpm.js";

const ID = "package_manager";
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;
/** A package larger than this is not taken apart for one file. */
const ARCHIVE_BYTES_MAX = 1024 * 2 ** 20;

interface Places {
  readonly root: string;
  /** Further folders of package files. */
  readonly named: readonly string[];
  readonly mayDownload: boolean;
}

/** A package file on this machine, and who could have written it. */
interface Archive {
  readonly file: string;
  readonly ownerUid: number;
  /** Downloaded for this search, and gone after it. */
  readonly isTemporary: boolean;
}

export function packageManagerStrategy(): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      signal.throwIfAborted();
      const places = placesOf(search.parameters);
      const file = await debianFileAt(places.root, lost.path, search.note, signal);
      if (file !== undefined) yield* debianCandidates(file, places, { lost, search }, signal);
      const rpm = file === undefined ? await rpmFileAt(places.root, lost.path, signal) : undefined;
      if (rpm !== undefined) yield* rpmCandidates(rpm, places, { lost, search }, signal);
    },
    advise: async (lost, search) => {
      const { root } = placesOf(search.parameters);
      const rpm = await rpmFileAt(root, lost.path, new AbortController().signal).catch(() => undefined);
      if (rpm !== undefined && root === "/") return [`dnf reinstall ${rpm.package}-${rpm.version}.${rpm.architecture}`];
      const database = new DpkgDatabase(root);
      const name = database.nameOf(lost.path);
      if (name === undefined || root !== "/") return [];
      const file = await database.owning(name, () => undefined, new AbortController().signal).catch(() => undefined);
      return file === undefined ? [] : [`apt-get install --reinstall ${file.package}=${file.version}`];
    },
  };
}

interface Asked {
  readonly lost: LostFile;
  readonly search: Search;
}

async function debianFileAt(
  root: string,
  path: BytePath,
  note: (text: string) => void,
  signal: AbortSignal,
): Promise<PackagedFile | undefined> {
  const database = new DpkgDatabase(root);
  const name = database.nameOf(path);
  const isDebian = (await regularFileAt(pathFromText(join(root, "var/lib/dpkg/status")))) !== undefined;
  return name === undefined || !isDebian ? undefined : await database.owning(name, note, signal);
}

async function* debianCandidates(
  file: PackagedFile,
  places: Places,
  { lost, search }: Asked,
  signal: AbortSignal,
): AsyncIterable<Candidate> {
  const archive =
    (await archiveIn(aptFolders(places), archiveName(file))) ?? (await downloaded(file, places, search, signal));
  if (archive === undefined) {
    search.note(`it belongs to ${file.package} ${file.version}, whose package file is not on this machine`);
    return;
  }
  const folder = await mkdtemp(join(search.scratchDir, "package-"));
  try {
    await unpackArchive(archive.file, file, folder, signal);
    const candidate = await candidateIn(folder, { file, archive, lost }, signal);
    if (candidate === undefined) search.note(`${archive.file} has other bytes than the package database promises`);
    else yield candidate;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function placesOf(parameters: Parameters): Places {
  const reader = new ParameterReader(ID, parameters);
  const root = reader.text("root") ?? "/";
  if (!isAbsolute(root)) throw reader.wrong("root", "an absolute folder");
  const named = reader.texts("archives") ?? [];
  if (!named.every(isAbsolute)) throw reader.wrong("archives", "absolute folders");
  const mayDownload = reader.flag("download");
  return { root, named, mayDownload };
}

function aptFolders({ root, named }: Places): readonly string[] {
  return [join(root, "var/cache/apt/archives"), ...named];
}

async function archiveIn(folders: readonly string[], name: string): Promise<Archive | undefined> {
  for (const folder of folders) {
    const path = join(folder, name);
    const stat = await regularFileAt(pathFromText(path));
    if (stat === undefined || stat.size > BigInt(ARCHIVE_BYTES_MAX)) continue;
    return { file: path, ownerUid: Number(stat.uid), isTemporary: false };
  }
  return undefined;
}

/** Asks apt for the same version; apt proves its signature. It lies in the private folder and is gone with it. */
async function downloaded(
  file: PackagedFile,
  places: Places,
  search: Search,
  signal: AbortSignal,
): Promise<Archive | undefined> {
  if (!places.mayDownload || places.root !== "/") return undefined;
  const folder = await mkdtemp(join(search.scratchDir, "download-"));
  const wanted = `${file.package}:${file.architecture}=${file.version}`;
  const command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", wanted.replace(":all=", "=")];
  const result = await runProgram(command, {
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
    signal,
    cwd: folder,
    env: { LC_ALL: "C" },
  });
  if (result.exitCode !== 0) {
    search.note(`apt could not bring ${file.package} ${file.version}: ${result.stderr.trim().slice(-300)}`);
    return undefined;
  }
  const [name] = (await readdir(folder)).filter((each) => each.endsWith(".deb"));
  if (name === undefined) throw new HoldfastError("RECOVERY_FAILED", "apt said that it has downloaded, but did not");
  const archive = join(folder, name);
  return { file: archive, ownerUid: (await statPath(archive)).uid, isTemporary: true };
}

/** The unpacked file, if its bytes have the checksum of the database. */
async function candidateIn(
  folder: string,
  found: { readonly file: PackagedFile; readonly archive: Archive; readonly lost: LostFile },
  signal: AbortSignal,
): Promise<Candidate | undefined> {
  const { file, archive, lost } = found;
  const path = file.name
    .split("/")
    .filter((part) => part !== "")
    .reduce<BytePath>(
      (parent, part) => joinPath(parent, Buffer.from(part, "utf8").toString("latin1")),
      pathFromText(folder),
    );
  const stat = await regularFileAt(path);
  if (stat === undefined) return undefined;
  const { md5, sha256 } = await digestsOf(path, signal);
  if (md5 !== file.md5) return undefined;
  const good = lost.lastGood;
  const modifiedAtMs = msOfNs(stat.mtimeNs);
  const isLastGood = good === undefined || good.sha256 === sha256;
  const isOwnTree = process.getuid?.() === 0;
  return {
    strategy: ID,
    origin: `package ${file.package} ${file.version} (${file.architecture})${archive.isTemporary ? ", downloaded" : ""}`,
    fidelity: isLastGood ? "exact" : "older",
    modifiedAtMs,
    sizeBytes: Number(stat.size),
    sha256,
    ownerUid: archive.ownerUid,
    notes: notesOn(isLastGood, file),
    ...(good === undefined && isOwnTree ? { metadata: { ...nodeFromStat(stat), sha256 } } : {}),
    command: archive.isTemporary
      ? `apt-get download ${file.package}=${file.version}`
      : `dpkg-deb --fsys-tarfile ${quoted(archive.file)} | tar -xO ${quoted(`.${file.name}`)} > RECOVERED`,
    open: (inner) => readRegularFile(path, inner),
  };
}

/** The file out of its rpm package, if its bytes have the digest of the database. */
async function* rpmCandidates(
  file: RpmFile,
  { root, named }: Places,
  { lost, search }: Asked,
  signal: AbortSignal,
): AsyncIterable<Candidate> {
  const name = rpmArchiveName(file);
  const archive = await archiveIn([...(await rpmCaches(root)), ...named], name);
  if (archive === undefined) {
    search.note(`it belongs to ${file.package} ${file.version}, whose package file is not on this machine`);
    return;
  }
  const bytes = await fileInRpm(archive.file, file, signal);
  if (bytes === undefined || createHash(file.algorithm).update(bytes).digest("hex") !== file.digest) {
    search.note(`${archive.file} has other bytes than the package database promises`);
    return;
  }
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  const isLastGood = lost.lastGood === undefined || lost.lastGood.sha256 === sha256;
  yield {
    strategy: ID,
    origin: `package ${file.package} ${file.version} (${file.architecture})`,
    fidelity: isLastGood ? "exact" : "older",
    sizeBytes: bytes.length,
    sha256,
    ownerUid: archive.ownerUid,
    notes: notesOn(isLastGood, file),
    command: `rpm2cpio ${quoted(archive.file)} | cpio -i --to-stdout ${quoted(`.${file.name}`)} > RECOVERED`,
    // eslint-disable-next-line @typescript-eslint/require-await -- the bytes are in memory already
    async *open() {
      yield bytes;
    },
  };
}

function notesOn(isLastGood: boolean, { isConfiguration }: { readonly isConfiguration: boolean }): readonly string[] {
  return [
    "checksum: the one that the package database has for the file",
    ...(isLastGood ? [] : ["the file had been changed after it was installed"]),
    ...(isConfiguration ? ["a configuration file: as the package brings it"] : []),
  ];
}

async function digestsOf(
  path: BytePath,
  signal: AbortSignal,
): Promise<{ readonly md5: string; readonly sha256: string }> {
  const md5 = createHash("md5");
  const sha256 = createHash("sha256");
  for await (const part of readRegularFile(path, signal)) {
    md5.update(part);
    sha256.update(part);
  }
  return { md5: md5.digest("hex"), sha256: sha256.digest("hex") };
}
