/** Restores asked for over the API: which entries, from a backup or from a time, and where to. */
import { mkdir } from "node:fs/promises";
import { HoldfastError } from "../base/errors.js";
import { type BytePath, isWithin, pathBytes, pathFields, pathFromText } from "../base/paths.js";
import { restore } from "../engine/restore.js";
import type { Repository } from "../engine/repository.js";
import type { Entry } from "../engine/types.js";
import type { RestoreReport, RestoreRequest } from "../api/services.js";
import { globOf } from "./glob.js";
import { realOrSame } from "../sources/files.js";
import type { WorkContext } from "./job-documents.js";
import type { Parts } from "./parts.js";
import type { ProtectedSource } from "./protected-source.js";

const GLOB_SIGNS = /[*?[{]/;

/** Checks the request before a job is made of it. Throws BACKUP_NOT_FOUND, BACKUP_AMBIGUOUS, USAGE. */
export async function checkRestore(parts: Parts, request: RestoreRequest): Promise<void> {
  const { repository, book } = parts;
  if (request.backup_id !== undefined) await repository.backup(request.backup_id);
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
  if (target !== undefined && !request.dry_run) await mkdir(pathBytes(target), { recursive: true });
  const selects = selectionOf(request.files);
  const chosen = filtered(entriesOf(repository, request, context.signal), request.sources, selects);
  const moved = target === undefined ? movedPlaces(parts) : [];
  const placed = relocated(chosen, moved);
  let found = 0;
  const counted = tap(placed, () => (found += 1));
  const report = await restore(
    repository,
    {
      entries: counted,
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
    },
    context.signal,
    ({ filesDone, bytesDone }) =>
      context.progress({ files_done: filesDone, files_total: null, bytes_done: bytesDone, bytes_total: null }),
  );
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
    warnings: report.warnings,
    plan: report.plan.map(({ path, action }) => ({ ...pathFields(path), action })),
  };
}

async function* entriesOf(repository: Repository, request: RestoreRequest, signal: AbortSignal): AsyncGenerator<Entry> {
  const { backup_id: id, at_ms: atMs } = request;
  if (id === undefined && atMs !== undefined) {
    for (const source of await repository.sourceNames()) yield* repository.entriesAt(source, atMs, signal);
    return;
  }
  const { backup_id: backupId } = await repository.backup(id ?? "latest");
  yield* repository.backupEntries(backupId, {}, signal);
}

/** Paths name a file or everything below a folder; patterns with `*` and the like are globs. */
function selectionOf(files: readonly string[]): (path: BytePath) => boolean {
  if (files.length === 0) return () => true;
  const tests = files.map((text) => {
    if (GLOB_SIGNS.test(text)) return globOf(text);
    const chosen = pathFromText(text);
    return (path: BytePath) => isWithin(path, chosen);
  });
  return (path) => tests.some((test) => test(path));
}

async function* filtered(
  entries: AsyncIterable<Entry>,
  sources: readonly string[],
  selects: (path: BytePath) => boolean,
): AsyncGenerator<Entry> {
  for await (const entry of entries) {
    if (sources.length > 0 && !sources.includes(entry.source)) continue;
    if (selects(entry.path)) yield entry;
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

async function* relocated(entries: AsyncIterable<Entry>, moved: readonly MovedPlace[]): AsyncGenerator<Entry> {
  for await (const entry of entries) {
    const place = moved.find(({ from }) => isWithin(entry.path, from));
    if (place === undefined) yield entry;
    else yield { ...entry, path: (place.to + entry.path.slice(place.from.length)) as BytePath };
  }
}

/** The path under which something at a moved place is stored. */
function storedPathOf(path: BytePath, moved: readonly MovedPlace[]): BytePath {
  const place = moved.find(({ to }) => isWithin(path, to));
  return place === undefined ? path : ((place.from + path.slice(place.to.length)) as BytePath);
}

async function* tap(entries: AsyncIterable<Entry>, onEntry: () => void): AsyncGenerator<Entry> {
  for await (const entry of entries) {
    onEntry();
    yield entry;
  }
}
