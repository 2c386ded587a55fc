/**
 * The monitor: watches the sources, keeps the registry of protected files, and tells by events what changed, what was
 * removed on purpose, and what was lost or damaged.
 */
import type { BytePath } from "../base/paths.js";
import type {
  DurableReceipt,
  Explanation,
  MonitorOptions,
  OwnWrite,
  ScanReport,
  SourceSettings,
  SourceStatus,
  SourceWatch,
} from "./ports.js";
import type { Registry, RegistryRecord } from "./registry.js";
import type { Verdict } from "./validator.js";

export declare class Monitor implements AsyncDisposable {
  static open(options: MonitorOptions): Promise<Monitor>;
  readonly registry: Registry;
  /** Begins to watch; resolves when the first look at everything is over. Throws SOURCE_EXISTS. */
  addSource(source: SourceWatch, settings: SourceSettings, signal: AbortSignal): Promise<void>;
  removeSource(name: string, options?: { readonly forget?: boolean }): Promise<void>;
  status(): readonly SourceStatus[];
  scan(options: { readonly path?: BytePath }, signal: AbortSignal): Promise<ScanReport>;
  expectOwnWrite(expected: OwnWrite): void;
  recordDurable(source: string, receipt: DurableReceipt): void;
  /** The commit queue could not hold a source's changes: look at all of it again. */
  requestReconcile(source: string, reason: string): void;
  pause(path: BytePath | undefined, durationMs: number, reason: string): Promise<Pause>;
  resume(path: BytePath | undefined): Promise<readonly Pause[]>;
  explain(path: BytePath): Explanation;
  acceptRemoval(path: BytePath, reason: string): Promise<void>;
  acceptContent(path: BytePath, reason: string): Promise<void>;
  lastGood(path: BytePath): RegistryRecord | undefined;
  validate(contentPath: string, forPath: BytePath, signal: AbortSignal): Promise<Verdict>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A maintenance window: changes are recorded, nothing is healed. */
export interface Pause {
  /** Undefined: everything. */
  readonly path: BytePath | undefined;
  readonly untilMs: number;
  readonly reason: string;
}
