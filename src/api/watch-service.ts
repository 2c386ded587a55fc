/** What the API can ask about what is protected: sources, pauses, why a path is treated as it is. A port beside `services.ts`. */
import type { BytePath } from "../base/paths.js";
import type { PathDocument } from "./path-document.js";

export const SOURCE_STATES = ["protected", "scanning", "degraded", "root_gone", "paused", "unwatched"] as const;
export interface SourceDocument {
  readonly name: string;
  readonly paths: readonly string[];
  readonly state: (typeof SOURCE_STATES)[number];
  /** Why it is not `protected`; null when it is. */
  readonly reason: string | null;
  readonly files: number;
  readonly bytes: number;
  readonly pending_changes: number;
  /** Files that cannot be read at the moment; their last good versions are kept. */
  readonly files_unreadable: number;
  /** What `expect` asks for and is not there, one text each. */
  readonly expected_missing: readonly string[];
  readonly on_delete: "heal" | "hold" | "allow";
  readonly priority: string;
  readonly newest_commit_at: string | null;
  readonly last_backup_at: string | null;
  readonly rpo_seconds: number | null;
  readonly rto_seconds: number | null;
  readonly exclude: readonly string[];
  /** True when it came by `protect`, false when it stands in the configuration. */
  readonly added_at_run_time: boolean;
}
/** What may be set of a source at run time; the rest is as the configuration's `defaults` have it. */
export interface SourceSettingsRequest {
  readonly on_delete?: "heal" | "hold" | "allow";
  readonly priority?: "critical" | "high" | "medium" | "low";
  readonly rpo_seconds?: number;
  readonly rto_seconds?: number;
  /** Patterns as in .gitignore, beside the configured ones. */
  readonly exclude?: readonly string[];
}
export interface ProtectRequest extends SourceSettingsRequest {
  readonly paths: readonly BytePath[];
  readonly name?: string;
}
/** Null: as the configuration's `defaults` have it; left out: as it is. */
export type ChangeSourceRequest = {
  readonly [Key in keyof SourceSettingsRequest]: SourceSettingsRequest[Key] | null;
} & { readonly paths?: readonly BytePath[] };
export interface PauseDocument {
  readonly path: string | null;
  readonly until: string;
  readonly reason: string;
}
export interface ExplainDocument extends PathDocument {
  readonly source: string | null;
  readonly protected: boolean;
  readonly mode: string;
  /** The rule that decided, as written, and where it comes from. */
  readonly rule: string;
  readonly why: string;
  readonly validators: readonly string[];
  /** What a heal would try, in this order, until one has what may be put back. */
  readonly recovery_chain: readonly string[];
  /** What of it has nothing for this path, or why nothing is tried, for people. */
  readonly recovery_notes: readonly string[];
}
export interface WatchService {
  sources(): Promise<readonly SourceDocument[]>;
  protect(request: ProtectRequest): Promise<readonly SourceDocument[]>;
  /** Takes what is given at once; USAGE for a source of the configuration. */
  change(name: string, request: ChangeSourceRequest): Promise<SourceDocument>;
  /** By name or by one of its paths. Its backups stay. */
  unprotect(nameOrPath: string): Promise<SourceDocument>;
  pause(path: BytePath | undefined, durationMs: number, reason: string): Promise<PauseDocument>;
  resume(path: BytePath | undefined): Promise<readonly PauseDocument[]>;
  explain(path: BytePath): Promise<ExplainDocument>;
}
