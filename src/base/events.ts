/**
 * What parts tell each other without knowing each other: the whole catalogue of events, and the bus that carries
 * them. A handler only notes and enqueues; it runs synchronously and must not block. A handler that throws is
 * reported to `onFault` and does not stop the others.
 */
import type { BytePath } from "./paths.js";

/** How a protected file was found not to be as it should. */
export const DAMAGE_KINDS = [
  "deleted",
  "truncated",
  "nul_tail",
  "bit_rot",
  "invalid_structure",
  "schema_violation",
  "encrypted",
  // Of a file that may only grow: what it held is not there any more.
  "overwritten",
] as const;
export type DamageKind = (typeof DAMAGE_KINDS)[number];

/** How a loss or damage was noticed. */
export type NoticedBy = "event" | "sweep" | "scrub" | "scan" | "start";

/** Who changed or removed something, as far as the system told. */
export interface Actor {
  readonly pid: number;
  /** Name of the program; "" when it ended before anybody could look. Printable ASCII. */
  readonly program: string;
  /** Whom it ran as, and who had logged in; undefined when that is not known, or nobody had. */
  readonly user: string | undefined;
  readonly loginUser: string | undefined;
  /** A tool of the system (git, make, a package manager) that it is or works for; what such take away they mean to. */
  readonly tool: string | undefined;
  /** It is not the tool itself but was started for it, and where that ran; no folder: that is not known. */
  readonly worksFor?: { readonly folder: BytePath | undefined };
  /** It was not seen to do this very thing, but all that was seen around it. */
  readonly isGuess?: boolean;
  /** It removed what it had renamed to this moments before: which inode, when (wall ms), and the name before. */
  readonly namedIt?: { readonly ino: string; readonly atMs: number; readonly from: BytePath };
  /** When it started, clock ticks from the start of the system; tells it from another process of its number. */
  readonly startTicks?: number | undefined;
}

export interface LossEvent {
  readonly source: string;
  readonly path: BytePath;
  readonly kind: DamageKind;
  readonly noticedBy: NoticedBy;
  /** When the change was first seen, wall ms. */
  readonly seenAtMs: number;
  /** What a person should know, such as the validator's complaint; never file content. */
  readonly detail: string;
  /** When holdfast had put back what was deleted, wall ms; not given: it had not, or not this version. */
  readonly healedAtMs?: number;
  /** Known only where fanotify runs. */
  readonly actor?: Actor;
}

export interface EventCatalogue {
  /** New, valid content rests at the path (or a new folder, link, attribute): to be made durable. */
  "file.changed": { readonly source: string; readonly path: BytePath; readonly seenAtMs: number };
  /** The path is gone and its removal is accepted (mirror mode, intent seen): to be recorded as a removal. */
  "file.removed": {
    readonly source: string;
    readonly path: BytePath;
    readonly reason: string;
    readonly seenAtMs: number;
  };
  /**
   * A registered file is missing and stays so: if nothing explains it, it is told as lost when the grace is over. Not told
   * of many at once, nor when the grace is very short.
   */
  "file.missed": { readonly source: string; readonly path: BytePath; readonly seenAtMs: number };
  /** Loss or damage after grace, in a mode that wants to hear of it. The healer decides what to do. */
  "file.lost": LossEvent;
  /** A path reported lost or damaged is good again without our doing. */
  "file.returned": { readonly source: string; readonly path: BytePath };
  /** Many losses at once in one source, which are one incident. What is found later of the same event is told as it comes. */
  "mass.loss": {
    readonly source: string;
    /** Those that were not told before; none when it only tells that nothing follows any more. */
    readonly losses: readonly LossEvent[];
    /** More is going at this moment: nothing may be put back before a message without this. */
    readonly goesOn?: boolean;
    /** An attack is held for its deed, or stands in the source: nothing of it may be put back without a person. */
    readonly isAttack: boolean;
  };
  /** The files of an attack (a `mass.loss` that says so) are in this incident: the attack is over when that is over. */
  "attack.held": { readonly source: string; readonly id: string };
  /** A process that attacked files was stopped (SIGSTOP) and waits for a person. */
  "attacker.stopped": { readonly source: string; readonly actor: Actor };
  "commit.durable": { readonly source: string; readonly paths: readonly BytePath[]; readonly oldestSeenAtMs: number };
  "backup.finished": { readonly source: readonly string[]; readonly backupId: string; readonly unreadable: number };
  "backup.failed": { readonly source: readonly string[]; readonly code: string; readonly message: string };
  "backup.overdue": { readonly source: string; readonly ageMs: number; readonly limitMs: number };
  "backup.timely": { readonly source: string };
  "incident.opened": { readonly id: string; readonly source: string; readonly paths: number; readonly kind: string };
  "incident.healed": {
    readonly id: string;
    readonly source: string;
    readonly paths: number;
    readonly durationMs: number;
  };
  "incident.failed": { readonly id: string; readonly source: string; readonly paths: number; readonly message: string };
  "incident.held": { readonly id: string; readonly source: string; readonly paths: number; readonly reason: string };
  "incident.closed": { readonly id: string; readonly source: string; readonly outcome: string };
  /** Files that the source is expected to hold are not there, or none is new enough. Told when it begins or differs. */
  "files.missing": { readonly source: string; readonly match: string; readonly detail: string };
  /** They are as expected again. */
  "files.expected": { readonly source: string; readonly match: string };
  /** Everything of a source has been looked at once since it is watched: modes and contents are known. */
  "watch.ready": { readonly source: string };
  /** Nobody protects it any more. */
  "source.removed": { readonly source: string; readonly roots: readonly BytePath[] };
  "watch.degraded": { readonly source: string; readonly reason: string };
  "watch.restored": { readonly source: string };
  "root.gone": { readonly source: string; readonly root: BytePath; readonly reason: string };
  "root.returned": { readonly source: string; readonly root: BytePath };
  /** Nearly full, or (`writeFailed`) not writable; `code` says why: STORE_FULL, STORE_READ_ONLY or STORE_IO. */
  "store.full": {
    readonly usedShare: number;
    readonly freeBytes: number;
    readonly writeFailed: boolean;
    readonly code?: string;
  };
  "store.roomy": { readonly usedShare: number; readonly freeBytes: number };
  "integrity.failed": { readonly what: string; readonly code: string; readonly message: string };
  "integrity.passed": { readonly what: string };
}

export type EventName = keyof EventCatalogue;
export type EventHandler<N extends EventName> = (event: EventCatalogue[N]) => void;

export class EventBus {
  readonly #handlers = new Map<EventName, Set<(event: never) => void>>();
  readonly #onFault: (name: EventName, error: unknown) => void;

  constructor(onFault: (name: EventName, error: unknown) => void) {
    this.#onFault = onFault;
  }

  /** Calls the handler at each event of that name; returns the way to stop it. */
  on<N extends EventName>(name: N, handler: EventHandler<N>): () => void {
    const handlers = this.#handlers.get(name) ?? new Set();
    handlers.add(handler);
    this.#handlers.set(name, handlers);
    return () => {
      handlers.delete(handler);
    };
  }

  /** Tells every handler, in the order they came. */
  emit<N extends EventName>(name: N, event: EventCatalogue[N]): void {
    for (const handler of this.#handlers.get(name) ?? []) {
      try {
        (handler as EventHandler<N>)(event);
      } catch (error) {
        this.#onFault(name, error);
      }
    }
  }
}
