/** What is watched, over the API: sources, pauses, and why a path is treated as it is. */
import { isoTime } from "../../base/clock.js";
import { HoldfastError } from "../../base/errors.js";
import { type BytePath, pathFields } from "../../base/paths.js";
import type { ChangeSourceRequest, ExplainDocument, SourceDocument, WatchService } from "../../api/watch-service.js";
import type { SourceStatus } from "../../monitor/ports.js";
import { pauseDocument } from "../documents.js";
import type { Operation } from "../operation.js";
import type { Parts } from "../parts.js";
import type { ProtectedSource } from "../protected-source.js";
import type { SourceSettings } from "../source-defaults.js";

export function watchService(parts: Parts, operation: Operation): WatchService {
  const needDaemon = (): void => {
    if (parts.ground.isDaemon) return;
    throw new HoldfastError("DAEMON_UNREACHABLE", "this needs a running daemon");
  };
  return {
    sources: async () => await Promise.resolve(sourceDocuments(parts, operation)),
    async protect(request) {
      needDaemon();
      const { paths, name, ...settings } = request;
      const source = await operation.protect(paths, name, changedSettings({}, settings));
      const document = documentOf(parts, operation, source);
      const unreadable = Math.max(document.files_unreadable, operation.takeUnreadable(source.name));
      return [{ ...document, files_unreadable: unreadable }];
    },
    async change(name, { paths, ...settings }) {
      needDaemon();
      const source = await operation.change(name, (added) => ({
        name,
        paths: paths ?? added.paths,
        settings: changedSettings(added.settings, settings),
      }));
      return documentOf(parts, operation, source);
    },
    async unprotect(nameOrPath) {
      const source = parts.book.byNameOrPath(nameOrPath);
      const document = documentOf(parts, operation, source);
      await operation.unprotect(source);
      return document;
    },
    async pause(path, durationMs, reason) {
      needDaemon();
      if (path !== undefined) parts.book.needAt(path);
      return pauseDocument(await parts.monitor.pause(path, durationMs, reason));
    },
    async resume(path) {
      needDaemon();
      return (await parts.monitor.resume(path)).map(pauseDocument);
    },
    async explain(path): Promise<ExplainDocument> {
      const explained = parts.monitor.explain(path);
      const source = explained.source === undefined ? undefined : parts.book.find(explained.source);
      return await Promise.resolve({
        ...pathFields(path),
        source: explained.source ?? null,
        protected: explained.source !== undefined,
        mode: explained.mode,
        rule: `${explained.rule} (${explained.origin})`,
        why: explained.why,
        validators: explained.validators,
        ...explainRecovery(parts, source, path),
      });
    },
  };
}

function explainRecovery(
  { ground, monitor }: Parts,
  source: ProtectedSource | undefined,
  path: BytePath,
): Pick<ExplainDocument, "recovery_chain" | "recovery_notes"> {
  if (source === undefined) return { recovery_chain: [], recovery_notes: [] };
  if ((monitor.lastGood(path)?.kind ?? "file") !== "file") {
    const note = "made again from what is recorded of it; no strategy is asked";
    return { recovery_chain: [], recovery_notes: [note] };
  }
  const { reflinks, hardLinks } = ground.configuration.pins;
  const notes: string[] = [];
  if (source.configuration.priority !== "critical")
    notes.push("pinned, pinned_links: nothing, because the source is not critical");
  else if (!reflinks && !hardLinks)
    notes.push("pinned_links: nothing, because pins.reflinks and pins.hard_links are off");
  return { recovery_chain: source.chainOf(path), recovery_notes: notes };
}

/** Null takes a setting back to its default, and what is left out stays. */
function changedSettings(settings: SourceSettings, change: Omit<ChangeSourceRequest, "paths">): SourceSettings {
  const { rpo_seconds: rpo, rto_seconds: rto, on_delete: onDelete, priority, exclude } = change;
  return {
    ...changed("onDelete", settings, onDelete),
    ...changed("priority", settings, priority),
    ...changed("rpoMs", settings, typeof rpo === "number" ? rpo * 1000 : rpo),
    ...changed("rtoMs", settings, typeof rto === "number" ? rto * 1000 : rto),
    ...changed("exclude", settings, exclude),
  };
}

function changed<Key extends keyof SourceSettings>(
  key: Key,
  settings: SourceSettings,
  value: SourceSettings[Key] | null,
): Partial<SourceSettings> {
  const wanted = value === undefined ? settings[key] : value;
  return wanted === undefined || wanted === null ? {} : { [key]: wanted };
}

function documentOf(parts: Parts, operation: Operation, source: ProtectedSource): SourceDocument {
  const found = sourceDocuments(parts, operation).find(({ name }) => name === source.name);
  if (found === undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `no source is called "${source.name}"`);
  return found;
}

export function sourceDocuments(parts: Parts, operation: Operation): readonly SourceDocument[] {
  const statuses = new Map(parts.monitor.status().map((status) => [status.name, status]));
  return parts.book.all().map((source) => {
    const status = statuses.get(source.name);
    const { freshness } = operation;
    const { files, bytes } = status ?? freshness.storedSize(source.name) ?? { files: 0, bytes: 0 };
    return {
      name: source.name,
      paths: source.pathTexts,
      state: status?.state ?? (parts.ground.isDaemon ? "scanning" : "unwatched"),
      reason: status?.reason ?? (parts.ground.isDaemon ? (operation.startReason(source.name) ?? null) : null),
      files,
      bytes,
      pending_changes: Math.max(status?.pending ?? 0, parts.queue.pending(source.name)),
      files_unreadable: parts.queue.unreadable(source.name).length,
      expected_missing: unmetTexts(status),
      on_delete: onDelete(source),
      priority: source.configuration.priority,
      newest_commit_at: isoOrNull(freshness.newestCopyMs(source.name)),
      last_backup_at: isoOrNull(freshness.lastBackup(source.name)?.atMs),
      rpo_seconds: source.configuration.rpoMs / 1000,
      rto_seconds: source.configuration.rtoMs / 1000,
      exclude: source.configuration.exclude,
      added_at_run_time: source.addedAtRunTime,
    };
  });
}

function unmetTexts(status: SourceStatus | undefined): readonly string[] {
  return (status?.unmet ?? []).map(({ match, detail }) => `${match}: ${detail}`);
}

function onDelete(source: ProtectedSource): SourceDocument["on_delete"] {
  return source.configuration.onDelete ?? "heal";
}

function isoOrNull(timeMs: number | undefined): string | null {
  return timeMs === undefined ? null : isoTime(timeMs);
}
