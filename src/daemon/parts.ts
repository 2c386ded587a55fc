/** Everything that a running holdfast consists of, built by `compose.ts` and used by the services. No behaviour. */
import type { Clock } from "../base/clock.js";
import type { EventBus } from "../base/events.js";
import type { Secret } from "../base/observe.js";
import type { Configuration } from "../config/configuration.js";
import type { CommitReceipt, Repository } from "../engine/repository.js";
import type { Monitor } from "../monitor/monitor.js";
import type { BackupJobs } from "../policy/backup-jobs.js";
import type { ChangeQueue } from "../policy/change-queue.js";
import type { JobRunner } from "../policy/job-runner.js";
import type { SpaceWatch } from "../policy/space.js";
import type { Healer } from "../recovery/healer.js";
import type { KeyService } from "../storage/key-service.js";
import type { Metrics } from "../telemetry/prometheus.js";
import type { BackupWork } from "./backup-work.js";
import type { EventLog } from "./event-log.js";
import type { RetentionBook } from "./retention-book.js";
import type { SourceBook } from "./source-book.js";
import type { StoreGauges } from "./store-gauges.js";
import type { Telling } from "./telling.js";

/** What a daemon and a single command are given alike. */
export interface Ground {
  readonly configuration: Configuration;
  /** From a file, the environment or the configuration; undefined: the key beside the state. */
  readonly password: Secret | undefined;
  /** Opens the repository where no password was given. */
  readonly keyService: KeyService | undefined;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly version: string;
  /** True for the daemon, false for a command that works alone. */
  readonly isDaemon: boolean;
  /** Changes what is logged from now on; undefined where the configuration does not decide it. */
  readonly setLogLevel?: (level: Configuration["log"]["level"]) => void;
  readonly signal: AbortSignal;
}

/** The part of a LevelDB sublevel (string keys and values) that a part keeps its memory in. */
export interface TextBucket {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
}

export interface Parts {
  readonly ground: Ground;
  /** The configuration in force; another one after a reload. */
  readonly settings: { current: Configuration };
  readonly bus: EventBus;
  readonly repository: Repository;
  readonly book: SourceBook;
  readonly retention: RetentionBook;
  readonly monitor: Monitor;
  readonly healer: Healer;
  readonly queue: ChangeQueue<CommitReceipt>;
  readonly jobs: JobRunner;
  readonly backupWork: BackupWork;
  readonly backupJobs: BackupJobs;
  readonly space: SpaceWatch;
  readonly storeGauges: StoreGauges;
  /** Empty for a command that works alone: it leaves telling to the daemon. */
  readonly telling: Telling;
  readonly events: EventLog;
  /** From when on the changed blocks of a source are counted, wall ms. */
  readonly blocksSince: TextBucket;
  /** Packs that recompression has tried, by name. */
  readonly recompressed: TextBucket;
  /** Wall ms. */
  readonly startedAtMs: number;
}
