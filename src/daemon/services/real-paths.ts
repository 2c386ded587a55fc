/**
 * Paths as people write them: what is stored and watched is known by real paths, so one that leads through a symbolic
 * link (`/var/run/app`, a home that was moved) is taken for where it leads. Without this a pause would pause nothing and
 * a scan would find no fault, and neither would say so. A path under which something is stored is taken as it is.
 */
import { type BytePath, joinPath, nameOf, parentPath, pathFromText, pathText } from "../../base/paths.js";
import type { BackupService, EntryDocument, RecoveryService, Services } from "../../api/services.js";
import type { WatchService } from "../../api/watch-service.js";
import { globBase, isGlob } from "../../sources/patterns.js";
import { realOrSame } from "../../sources/files.js";
import type { Parts } from "../parts.js";

type Resolve = (path: BytePath) => Promise<BytePath>;

/** The services, for paths through links too. */
export function withRealPaths(services: Services, parts: Parts): Services {
  const real: Resolve = async (path) => await realPath(parts, path);
  return {
    ...services,
    backups: { ...services.backups, ...backupsBy(services.backups, real) },
    watch: { ...services.watch, ...watchBy(services.watch, real) },
    recovery: { ...services.recovery, ...recoveryBy(services.recovery, real) },
  };
}

/** The first of the path, its place with the folders above resolved, and where that leads, of which something is known. */
async function realPath({ repository, book }: Parts, path: BytePath): Promise<BytePath> {
  const whole = realOrSame(path);
  if (whole === path) return path;
  const place = joinPath(realOrSame(parentPath(path)), nameOf(path));
  const candidates = [...new Set([path, place, whole])];
  for (const candidate of candidates) {
    if ((await repository.versions(candidate, { limit: 1 })).length > 0) return candidate;
  }
  return candidates.find((candidate) => book.holding(candidate) !== undefined) ?? whole;
}

function backupsBy(
  backups: BackupService,
  real: Resolve,
): Pick<BackupService, "list" | "entries" | "find" | "versions" | "content" | "restore"> {
  return {
    list: async ({ contains_file: path, ...filter }) =>
      await backups.list(path === undefined ? filter : { ...filter, contains_file: await real(path) }),
    async *entries(id, under): AsyncGenerator<EntryDocument> {
      yield* backups.entries(id, under === undefined ? undefined : await real(under));
    },
    async *find(glob): AsyncGenerator<EntryDocument> {
      yield* backups.find(await realGlob(glob, real));
    },
    versions: async (path) => await backups.versions(await real(path)),
    content: async (id, path, atMs, signal) => await backups.content(id, await real(path), atMs, signal),
    restore: async (request) => {
      const files = await Promise.all(request.files.map(async (text) => await realGlob(text, real)));
      return await backups.restore({ ...request, files });
    },
  };
}

function watchBy(watch: WatchService, real: Resolve): Pick<WatchService, "pause" | "resume" | "explain"> {
  return {
    pause: async (path, durationMs, reason) =>
      await watch.pause(path === undefined ? undefined : await real(path), durationMs, reason),
    resume: async (path) => await watch.resume(path === undefined ? undefined : await real(path)),
    explain: async (path) => await watch.explain(await real(path)),
  };
}

function recoveryBy(recovery: RecoveryService, real: Resolve): Pick<RecoveryService, "scan" | "recover"> {
  return {
    scan: async (path) => await recovery.scan(path === undefined ? undefined : await real(path)),
    recover: async (request) => await recovery.recover({ ...request, file: await real(request.file) }),
  };
}

/** A path or a glob on absolute paths; of a glob the folders before its first pattern are resolved. */
async function realGlob(text: string, real: Resolve): Promise<string> {
  if (!text.startsWith("/")) return text;
  const path = pathFromText(text);
  if (!isGlob(path)) {
    const found = await real(path);
    return found === path ? text : pathText(found);
  }
  const folder = pathText(globBase(path).folder as BytePath);
  const found = pathText(await real(pathFromText(folder)));
  return found === folder ? text : found + text.slice(folder.length);
}
