/** Restores asked for over the API: which entries, from a backup or from a time, and where to. */
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { makeFolders } from "../base/make-folders.js";
import { type BytePath, isWithin, pathBytes, pathFields, pathFromText, pathText } from "../base/paths.js";
import { type RestoreRequest as EngineRequest, restore } from "../engine/restore.js";
import type { Repository } from "../engine/repository.js";
import type { DatedEntry, Entry } from "../engine/types.js";
import type { RestoreReport, RestoreRequest } from "../api/services.js";
import { realOrSame } from "../sources/files.js";
import type { WorkContext } from "./job-documents.js";
import { type RankedEntries, newestOfEach } from "./newest-of-each.js";
import type { Parts } from "./parts.js";
import type { ProtectedSource } from "./protected-source.js";
import { type ElsewhereOrigin, type SourceOrigin, newestOrigins, onlyNamed, originsBeside } from "./restore-origin.js";
import { type Selection, selectionOf } from "./selection.js";

/** Checks the request before a job is made of it. Throws BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS, USAGE. */
export async function checkRestore(parts: Parts, request: RestoreRequest): Promise<void> {
  const { repository, book } = parts;
  if (request.at_ms === undefined) await repository.backup(request.backup_id ?? "latest");
  if (request.delete && request.files.length > 0) {
    throw new HoldfastError("USAGE", "--delete and --files do not go together", {
      hint: "Restore whole folders with --delete, or chosen files without it.",
    });
  }
  const choosy = book.all().find((source) => isConcerned(source, request) && source.leavesOut);
  if (request.delete && request.target === undefined && choosy !== undefined) {
    throw new HoldfastError(
      "USAGE",
      `--delete would remove what the source ${choosy.name} excludes and nobody stored`,
      {
        hint: "Restore to another folder with --target, or without --delete.",
      },
    );
  }
  if (request.in_place && request.target !== undefined && request.overwrite === "never") {
    throw new HoldfastError("USAGE", "--in-place changes existing files, which --overwrite never forbids");
  }
}

function isConcerned(source: ProtectedSource, { sources }: RestoreRequest): boolean {
  return sources.length === 0 || sources.includes(source.name);
}

/** Restores, and proves when asked. */
export async function restoreNow(parts: Parts, request: RestoreRequest, context: WorkContext): Promise<RestoreReport> {
  const { repository, settings } = parts;
  const { target } = request;
  const origin = await originOf(parts, request);
  if (target !== undefined && !request.dry_run) await makeTarget(target);
  const moved = target === undefined ? movedPlaces(parts) : [];
  const told = target === undefined && !request.dry_run ? toldTo(parts, moved) : {};
  let found = 0;
  const place = (entry: Entry): Entry => {
    found += 1;
    return relocated(entry, moved);
  };
  const report = await restore(
    repository,
    {
      entries: chosenEntries({ repository, request, place, from: origin.from }, context.signal),
      target,
      overwrite: request.overwrite,
      inPlace: request.in_place,
      delete: request.delete,
      dryRun: request.dry_run,
      verify: request.verify,
      sparse: request.sparse,
      storedPath: (path) => storedPathOf(path, moved),
      parentNode: (path) => repository.current(path)?.node,
      spare: [pathFromText(settings.current.stateDir)],
      ...told,
    },
    context.signal,
    ({ filesDone, bytesDone }) =>
      context.progress({ files_done: filesDone, files_total: null, bytes_done: bytesDone, bytes_total: null }),
  );
  await parts.monitor.registry.flush();
  if (found === 0) {
    throw new HoldfastError("VERSION_NOT_FOUND", "nothing that is stored fits the request", {
      hint: "See `holdfast ls latest` or `holdfast versions PATH`.",
    });
  }
  return {
    restored: report.restored,
    skipped: report.skipped,
    deleted: report.deleted,
    kept: report.kept,
    bytes: report.bytes,
    verified: request.verify && report.failedCount === 0,
    dry_run: request.dry_run,
    failed: report.failed.map(({ path, code, message }) => ({ ...pathFields(path), code, message })),
    warnings: [...report.warnings, ...origin.warnings],
    from: origin.from,
    plan: report.plan.map(({ path, action }) => ({ ...pathFields(path), action })),
  };
}

/** Makes the folder to restore below. Throws TARGET_EXISTS, PERMISSION_DENIED, TARGET_IO. */
async function makeTarget(target: BytePath): Promise<void> {
  try {
    await makeFolders(pathBytes(target), 0o777); // less what the umask takes, as mkdir does
  } catch (cause) {
    const errno = errnoOf(cause) ?? "";
    const where = pathText(target);
    if (errno === "EEXIST" || errno === "ENOTDIR") {
      const hint = "Choose another folder with --target.";
      throw new HoldfastError("TARGET_EXISTS", `${where}: a file stands where a folder is needed`, { cause, hint });
    }
    if (errno === "EACCES" || errno === "EPERM") {
      const hint = "Choose a folder that the account may write; with a daemon that is the daemon's account.";
      throw new HoldfastError("PERMISSION_DENIED", `${where} may not be made`, { cause, hint });
    }
    throw new HoldfastError("TARGET_IO", `${where} cannot be made: ${messageOf(cause)}`, { cause });
  }
}

interface ChosenFrom {
  readonly repository: Repository;
  readonly request: RestoreRequest;
  readonly place: (entry: Entry) => Entry;
  readonly from: readonly SourceOrigin[];
}

/** What the request chooses, where it is to go. */
async function* chosenEntries({ place, ...chosen }: ChosenFrom, signal: AbortSignal): AsyncGenerator<Entry> {
  const selection = selectionOf(chosen.request.files);
  for await (const entry of entriesOf(chosen, selection, signal))
    if (selection.includes(entry.path)) yield place(entry);
}

/** The monitor hears of everything that a restore does to protected places, so that it takes none of it for damage. */
function toldTo({ monitor }: Parts, moved: readonly MovedPlace[]): Pick<EngineRequest, "onWritten" | "onRemoved"> {
  return {
    onWritten: ({ source, path, node }) => {
      const isFile = node.kind === "file";
      if (isFile) monitor.acceptRestored(source, storedPathOf(path, moved), { sha256: node.sha256 });
    },
    onRemoved: ({ source, path }) => {
      monitor.acceptRestored(source, storedPathOf(path, moved), "removed");
    },
  };
}

/** From which backup each source comes, none of them where a time was asked for; and what is left out by that. */
async function originOf(
  parts: Parts,
  { backup_id: id, at_ms: atMs, sources, files }: RestoreRequest,
): Promise<{ readonly from: readonly SourceOrigin[]; readonly warnings: readonly string[] }> {
  if (id === undefined && atMs !== undefined) return { from: [], warnings: [] };
  if (id === undefined) {
    const { from, leftOut, elsewhere } = await newestOrigins(parts);
    if (sources.length > 0) return { from: onlyNamed([...from, ...leftOut, ...elsewhere], sources), warnings: [] };
    const warnings = elsewhere.map(elsewhereText);
    if (files.length > 0) return { from: [...from, ...leftOut], warnings };
    return { from, warnings: [...leftOut.map(leftOutText), ...warnings] };
  }
  const isChosen = sources.length > 0 || files.length > 0;
  const backup = await parts.repository.backup(id);
  const held = backup.sources.map(({ source }) => ({ source, backup_id: backup.backup_id }));
  const others = isChosen ? [] : await originsBeside(parts, backup);
  return {
    from: onlyNamed(held, sources),
    warnings: others.map(
      ({ source, backup_id: newest }) =>
        `the backup ${backup.backup_id} does not hold the source ${source}; the newest that does is ${newest}`,
    ),
  };
}

function leftOutText(origin: SourceOrigin): string {
  return `the source ${origin.source} is protected no more and was left out; ${howToNameIt(origin)}`;
}

function elsewhereText({ hostname, ...origin }: ElsewhereOrigin): string {
  return `the source ${origin.source} was stored on ${hostname} and was left out; ${howToNameIt(origin)}`;
}

function howToNameIt({ source, backup_id: newest }: SourceOrigin): string {
  return `with --sources ${source} it comes from ${newest}`;
}

function entriesOf(chosen: Omit<ChosenFrom, "place">, selection: Selection, signal: AbortSignal): AsyncIterable<Entry> {
  const { backup_id: id, at_ms: atMs } = chosen.request;
  const roots = selection.roots.map((root) => (root === "/" ? undefined : root));
  return id === undefined && atMs !== undefined
    ? entriesAt(chosen, atMs, roots, signal)
    : storedEntries(chosen, roots, signal);
}

/** What the wanted sources had at and below each of the paths at a time. */
async function* entriesAt(
  { repository, request: { sources } }: Pick<ChosenFrom, "repository" | "request">,
  atMs: number,
  roots: readonly (BytePath | undefined)[],
  signal: AbortSignal,
): AsyncGenerator<Entry> {
  const names = (await repository.sourceNames()).filter((name) => sources.length === 0 || sources.includes(name));
  for (const under of roots) {
    const dated = names.map((name): RankedEntries<DatedEntry> => ({
      entries: repository.entriesAt(name, atMs, signal, under),
      rankOf: ({ timeMs }) => timeMs,
    }));
    yield* newestOfEach(dated);
  }
}

/** What the backups hold at and below each of the paths. */
async function* storedEntries(
  { repository, from }: Pick<ChosenFrom, "repository" | "from">,
  roots: readonly (BytePath | undefined)[],
  signal: AbortSignal,
): AsyncGenerator<Entry> {
  const ages = new Map((await repository.listBackups()).map(({ backup_id: each }, age) => [each, age]));
  for (const under of roots) {
    const filter = under === undefined ? {} : { under };
    const stored = from.map(({ source, backup_id: backupId }) => ({
      entries: repository.backupEntries(backupId, { source, ...filter }, signal),
      rankOf: () => ages.get(backupId) ?? 0,
    }));
    yield* newestOfEach(stored);
  }
}

interface MovedPlace {
  readonly from: BytePath;
  readonly to: BytePath;
}

/**
 * Protected places that lie behind a link now. The folders above what a person protects are that person's business, so
 * a link there is followed, as healing does; a link below it never is.
 */
function movedPlaces({ book }: Parts): readonly MovedPlace[] {
  const places = new Set(book.all().flatMap((source) => [...source.configuration.paths, ...source.folders]));
  return [...places]
    .map((from) => ({ from, to: realOrSame(from) }))
    .filter(({ from, to }) => from !== to)
    .sort((a, b) => b.from.length - a.from.length);
}

function relocated(entry: Entry, moved: readonly MovedPlace[]): Entry {
  const place = moved.find(({ from }) => isWithin(entry.path, from));
  if (place === undefined) return entry;
  return { ...entry, path: (place.to + entry.path.slice(place.from.length)) as BytePath };
}

/** The path under which something at a moved place is stored. */
function storedPathOf(path: BytePath, moved: readonly MovedPlace[]): BytePath {
  const place = moved.find(({ to }) => isWithin(path, to));
  return place === undefined ? path : ((place.from + path.slice(place.to.length)) as BytePath);
}
