/**
 * `temp_files`: what editors leave behind: vim's swap files (read without vim), autosaves and backups beside the file
 * or in the editor's own folders, LibreOffice's recovery copies, VS Code's local history; and the Trash, whose entries
 * are only offered because they prove that somebody meant it.
 * Parameters: `homes` (folders to look into instead of the users' homes), `swap_dirs` (further folders of swap files).
 */
import type { BigIntStats } from "node:fs";
import { type BytePath, joinPath, nameOf, parentPath, pathFromText, pathText } from "../../base/paths.js";
import { anchoredStat, readAnchored } from "../anchored-file.js";
import { ParameterReader } from "../parameters.js";
import type { VersionReader } from "../ports.js";
import type { Candidate, Fidelity, LostFile, RecoveryStrategy, Search } from "../strategy.js";
import { findEditorCopies } from "./editor-copies.js";
import { findInEditorHistory } from "./editor-history.js";
import { likelyUsers } from "./homes.js";
import { jetBrainsHistories } from "./jetbrains-history.js";
import { quoted } from "./latest-backup.js";
import { fidelityByTime, msOfNs, readRegularFile, readSmallFile, regularFileAt } from "../regular-file.js";
import { findInTrash, namesIn } from "./trash.js";
import { type VimSwap, readVimSwap } from "./vim-swap.js";

const ID = "temp_files";
const SWAP_BYTES_MAX = 256 * 2 ** 20;
const BASE_BYTES_MAX = 256 * 2 ** 20;
/** Names in one folder that are looked through. */
const NAMES_MAX = 100_000;

export function tempFilesStrategy(reader: VersionReader): RecoveryStrategy {
  return {
    id: ID,
    effort: "reads",
    async *find(lost: LostFile, search: Search, signal: AbortSignal): AsyncIterable<Candidate> {
      const places = await placesOf(lost, search);
      for (const folder of places.swapFolders) yield* swapCandidates(reader, folder, { lost, search }, signal);
      yield* besideCandidates(lost, signal);
      for (const home of places.homes) {
        yield* copyCandidates(lost, home, signal);
        yield* historyCandidates(lost, home, signal);
        for (const history of await jetBrainsHistories(lost.path, home)) search.note(onJetBrains(history));
      }
      for (const trashed of await findInTrash(lost.path, places.homes, signal)) {
        const stat = anchoredStat(trashed.root, trashed.file);
        if (stat === undefined) continue;
        const when = trashed.deletedAt === "" ? "" : `, put there at ${trashed.deletedAt}`;
        yield {
          ...fileCandidate(lost, trashed.file, stat, `Trash: ${pathText(trashed.file)}`),
          open: (inner) => readAnchored(trashed.root, trashed.file, inner),
          notes: [`it lies in the Trash ${pathText(trashed.trash)}${when}`],
          offerOnly: "it lies in the Trash, so somebody meant to delete it",
        };
      }
    },
  };
}

/** What a person can do with a history that is not read. */
function onJetBrains(history: BytePath): string {
  return (
    `${pathText(history)}: the local history of a JetBrains IDE, which may have it; only the IDE can read it: ` +
    "open the project there, select the folder of the file, Local History > Show History"
  );
}

interface Places {
  readonly homes: readonly BytePath[];
  readonly swapFolders: readonly BytePath[];
}

async function placesOf(lost: LostFile, search: Search): Promise<Places> {
  const parameters = new ParameterReader(ID, search.parameters);
  const homeTexts = parameters.texts("homes") ?? (await likelyUsers(lost.lastGood?.uid)).map((user) => user.home);
  const homes = [...new Set(homeTexts)].map((home) => pathFromText(home, "/"));
  const more = (parameters.texts("swap_dirs") ?? []).map((folder) => pathFromText(folder, "/"));
  // vim's default 'directory' is ".,~/tmp,/var/tmp,/tmp".
  const inHomes = homes.flatMap((home) => [joinPath(home, "tmp"), joinPath(home, ".vim/swap")]);
  const common = ["/var/tmp", "/tmp"].map((folder) => pathFromText(folder));
  return { homes, swapFolders: [...new Set([parentPath(lost.path), ...more, ...inHomes, ...common])] };
}

/** Swap files of the path in one folder: `.name.swp`, `.swo` … beside it, or `%srv%app%name.swp` in a common folder. */
async function* swapCandidates(
  reader: VersionReader,
  folder: BytePath,
  asked: { readonly lost: LostFile; readonly search: Search },
  signal: AbortSignal,
): AsyncIterable<Candidate> {
  const { lost, search } = asked;
  const name = nameOf(lost.path);
  const plain = name.startsWith(".") ? [name] : [`.${name}`, name];
  const encoded = lost.path.replaceAll("/", "%");
  for (const found of (await namesIn(folder)).slice(0, NAMES_MAX)) {
    const stem = /^(.*)\.s[v-w][a-z]$/s.exec(found)?.[1];
    if (stem === undefined || !(plain.includes(stem) || stem === encoded)) continue;
    const file = joinPath(folder, found);
    const stat = await regularFileAt(file);
    const bytes = await readSmallFile(file, SWAP_BYTES_MAX, signal);
    if (stat === undefined || bytes === undefined) continue;
    const swap = await readWithBase(reader, lost, bytes, signal);
    if (swap.kind === "text" && isSwapOf(swap, lost, folder)) yield swapCandidate(lost, file, stat, swap);
    else if (swap.kind === "no_swap") search.note(`${pathText(file)}: ${swap.why}`);
    else search.note(`${pathText(file)}: ${swap.kind === "text" ? "a swap file of another file" : "it is encrypted"}`);
  }
}

/** Reads a swap file; the lines that it leaves to the original come from the version that vim had loaded. */
async function readWithBase(
  reader: VersionReader,
  lost: LostFile,
  bytes: Buffer,
  signal: AbortSignal,
): Promise<VimSwap> {
  const alone = readVimSwap(bytes, undefined);
  if (alone.kind !== "text" || alone.isComplete) return alone;
  const base = await baseLines(reader, lost, alone.header.loadedMtimeMs, signal);
  return base === undefined ? alone : readVimSwap(bytes, base);
}

async function baseLines(
  reader: VersionReader,
  lost: LostFile,
  loadedMtimeMs: number,
  signal: AbortSignal,
): Promise<readonly Buffer[] | undefined> {
  const versions = await reader.versions(lost.path, { limit: 20 });
  const node = versions.find((version) => {
    // vim keeps whole seconds.
    const mtimeNs = version.node?.kind === "file" ? version.node.stat.mtimeNs : undefined;
    return mtimeNs !== undefined && mtimeNs / 1_000_000_000n === BigInt(loadedMtimeMs / 1000);
  })?.node;
  if (node === undefined || node.stat.sizeBytes > BASE_BYTES_MAX) return undefined;
  const parts: Buffer[] = [];
  for await (const part of reader.readContent(node, signal)) parts.push(part);
  return linesOf(Buffer.concat(parts));
}

/** Lines without their ends, as vim splits them: a last line feed ends a line and begins none. */
function linesOf(content: Buffer): readonly Buffer[] {
  const lines: Buffer[] = [];
  let start = 0;
  for (let end = content.indexOf(0x0a); end !== -1; end = content.indexOf(0x0a, start)) {
    lines.push(content.subarray(start, end > start && content[end - 1] === 0x0d ? end - 1 : end));
    start = end + 1;
  }
  if (start < content.length) lines.push(content.subarray(start));
  return lines;
}

/** Beside the file the name is enough (the folder may have moved); elsewhere the whole path must agree. */
function isSwapOf(swap: VimSwap & { readonly kind: "text" }, lost: LostFile, folder: BytePath): boolean {
  const noted = swap.header.fileName as BytePath;
  if (folder === parentPath(lost.path)) return nameOf(noted) === nameOf(lost.path);
  return noted === lost.path || (noted.startsWith("~") && lost.path.endsWith(noted.replace(/^~[^/]*/, "")));
}

function swapCandidate(
  lost: LostFile,
  file: BytePath,
  stat: BigIntStats,
  swap: VimSwap & { readonly kind: "text" },
): Candidate {
  const { header, content, isComplete, problems } = swap;
  const time = fidelityByTime(lost, msOfNs(stat.mtimeNs));
  return {
    ...fileCandidate(lost, file, stat, `vim swap file ${pathText(file)}`),
    fidelity: isComplete ? time : "partial",
    sizeBytes: content.length,
    notes: [
      `edited by ${header.user} on ${header.host}, process ${String(header.processId)}, ` +
        (header.isModified ? "with unsaved changes" : "all changes saved"),
      ...problems,
    ],
    command: `vim -r ${quoted(pathText(file))}`,
    // eslint-disable-next-line @typescript-eslint/require-await -- the bytes are in memory already
    async *open() {
      yield content;
    },
  };
}

/** Copies that editors and people leave in the same folder, by name. */
async function* besideCandidates(lost: LostFile, signal: AbortSignal): AsyncIterable<Candidate> {
  const folder = parentPath(lost.path);
  const name = nameOf(lost.path);
  for (const found of (await namesIn(folder)).slice(0, NAMES_MAX)) {
    signal.throwIfAborted();
    const what = leftoverKind(name, found);
    if (what === undefined) continue;
    const file = joinPath(folder, found);
    const stat = await regularFileAt(file);
    if (stat === undefined) continue;
    const candidate = fileCandidate(lost, file, stat, `${what.label} ${pathText(file)}`);
    yield what.isOlder ? fromBeforeSave(lost, candidate) : candidate;
  }
}

/** A copy that an editor made before it saved is older than the file, though it was written at the same time. */
function fromBeforeSave(lost: LostFile, candidate: Candidate): Candidate {
  if (candidate.fidelity !== "newer" || lost.lastGood === undefined) return candidate;
  return { ...candidate, fidelity: "older", notes: ["editors write it before they save, so it holds what was before"] };
}

/** Copies that editors keep in folders of their own. */
async function* copyCandidates(lost: LostFile, home: BytePath, signal: AbortSignal): AsyncIterable<Candidate> {
  for (const { file, label, isOlder } of await findEditorCopies(lost.path, home, signal)) {
    const stat = anchoredStat(home, file);
    if (stat === undefined) continue;
    const candidate = {
      ...fileCandidate(lost, file, stat, `${label} ${pathText(file)}`),
      open: (inner: AbortSignal) => readAnchored(home, file, inner),
    };
    yield isOlder ? fromBeforeSave(lost, candidate) : candidate;
  }
}

/** What a name beside the lost one is; `isOlder` = the content from before a save, whenever it was written. */
function leftoverKind(name: string, found: string): { readonly label: string; readonly isOlder: boolean } | undefined {
  if (found === `#${name}#`) return { label: "emacs autosave", isOlder: false };
  if (found === `${name}.save` || (found.startsWith(`${name}.save.`) && /\.\d+$/.test(found)))
    return { label: "nano emergency save", isOlder: false };
  if (found === `${name}~` || found === `.${name}~`) return { label: "editor backup", isOlder: true };
  if (found.startsWith(`${name}.~`) && /\.~\d+~$/.test(found))
    return { label: "numbered editor backup", isOlder: true };
  if (found === `${name}.bak` || found === `${name}.orig`) return { label: "copy", isOlder: true };
  return undefined;
}

async function* historyCandidates(lost: LostFile, home: BytePath, signal: AbortSignal): AsyncIterable<Candidate> {
  for (const { file, savedAtMs } of await findInEditorHistory(lost.path, home, signal)) {
    const stat = anchoredStat(home, file);
    if (stat === undefined) continue;
    yield {
      ...fileCandidate(lost, file, stat, `editor history ${pathText(file)}`),
      open: (inner) => readAnchored(home, file, inner),
      modifiedAtMs: savedAtMs,
      fidelity: fidelityByTime(lost, savedAtMs),
    };
  }
}

function fileCandidate(lost: LostFile, file: BytePath, stat: BigIntStats, origin: string): Candidate {
  const modifiedAtMs = msOfNs(stat.mtimeNs);
  const fidelity: Fidelity = fidelityByTime(lost, modifiedAtMs);
  return {
    strategy: ID,
    origin,
    fidelity,
    modifiedAtMs,
    sizeBytes: Number(stat.size),
    ownerUid: Number(stat.uid),
    notes: [],
    command: `cp -a ${quoted(pathText(file))} RECOVERED`,
    open: (signal) => readRegularFile(file, signal),
  };
}
