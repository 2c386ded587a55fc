/** When each source was last made durable and last backed up: what `status` shows as the age of the newest copy. */
import type { Clock } from "../base/clock.js";
import type { EventBus } from "../base/events.js";
import type { Manifest } from "../engine/types.js";

export interface LastBackup {
  readonly backupId: string;
  /** Wall ms. */
  readonly atMs: number;
}

export interface StoredSize {
  readonly files: number;
  readonly bytes: number;
}

export class Freshness {
  readonly #commits = new Map<string, number>();
  readonly #backups = new Map<string, LastBackup>();
  readonly #stored = new Map<string, StoredSize>();
  #last: LastBackup | undefined;

  /** `known` are the backups of the repository at the start. */
  constructor(bus: EventBus, clock: Clock, known: readonly Manifest[]) {
    for (const manifest of known) {
      const backup = { backupId: manifest.backup_id, atMs: Date.parse(manifest.timestamp) };
      this.#note(
        backup,
        manifest.sources.map((source) => source.source),
      );
      for (const { source, files_total: files, total_size_bytes: bytes } of manifest.sources)
        if (this.#backups.get(source) === backup) this.#stored.set(source, { files, bytes });
    }
    bus.on("commit.durable", ({ source }) => this.#commits.set(source, clock.nowMs()));
    bus.on("backup.finished", ({ source, backupId }) => this.#note({ backupId, atMs: clock.nowMs() }, source));
  }

  /** Wall ms of the last on-change commit since the start, or the last backup. */
  newestCopyMs(source: string): number | undefined {
    const times = [this.#commits.get(source), this.#backups.get(source)?.atMs].filter((time) => time !== undefined);
    return times.length === 0 ? undefined : Math.max(...times);
  }

  /** What the last backup before the start holds of a source. */
  storedSize(source: string): StoredSize | undefined {
    return this.#stored.get(source);
  }

  lastBackup(source?: string): LastBackup | undefined {
    return source === undefined ? this.#last : this.#backups.get(source);
  }

  #note(backup: LastBackup, sources: readonly string[]): void {
    if (this.#last === undefined || backup.atMs >= this.#last.atMs) this.#last = backup;
    for (const source of sources) {
      if (backup.atMs >= (this.#backups.get(source)?.atMs ?? 0)) this.#backups.set(source, backup);
    }
  }
}
