/** What goes into the audit log: every request that changes something, and what befell files and by whom. */
import type { WriteNote } from "../api/router.js";
import type { Clock } from "../base/clock.js";
import type { Actor, EventBus } from "../base/events.js";
import { pathText } from "../base/paths.js";
import type { Job, JobRunner } from "../policy/job-runner.js";
import type { AuditLog } from "../telemetry/audit.js";
import { safeFields } from "../telemetry/redact.js";

/** Records from now on what the bus tells. */
export function auditEvents(bus: EventBus, audit: AuditLog): void {
  const by = "daemon";
  bus.on("file.lost", ({ source, path, kind, detail, actor }) => {
    audit.record({ action: "file.lost", by: nameOf(actor), detail: { source, path: pathText(path), kind, detail } });
  });
  bus.on("mass.loss", ({ source, losses, isAttack }) => {
    const [first] = losses;
    if (first === undefined) return; // it only tells that the event is over
    const detail = { source, files: losses.length, is_attack: isAttack, first: first.detail };
    audit.record({ action: "mass.loss", by: nameOf(first.actor), detail });
  });
  bus.on("attacker.stopped", ({ source, actor }) => {
    audit.record({ action: "attacker.stopped", by, detail: { source, stopped: nameOf(actor) } });
  });
  for (const name of [
    "incident.opened",
    "incident.healed",
    "incident.failed",
    "incident.held",
    "incident.closed",
  ] as const)
    bus.on(name, (event) => audit.record({ action: name, by, detail: withoutFalseDigits(event) }));
  bus.on("files.missing", (event) => audit.record({ action: "files.missing", by, detail: { ...event } }));
  bus.on("source.removed", ({ source }) => audit.record({ action: "source.removed", by, detail: { source } }));
}

/** Nobody reads a duration to the nanosecond: three digits are what it is good for. */
function withoutFalseDigits(event: object): Readonly<Record<string, unknown>> {
  const { durationMs } = event as { readonly durationMs?: unknown };
  return typeof durationMs === "number" ? { ...event, durationMs: Number(durationMs.toPrecision(3)) } : { ...event };
}

/** Requests of one caller that failed are recorded up to so many a minute, so that nobody pushes out what is older. */
const FAILED_PER_MINUTE = 60;
const MINUTE_MS = 60_000;
/** Callers that are counted; of more, the one that was counted longest is forgotten. */
const CALLERS_MAX = 1000;

type Jobs = Pick<JobRunner, "list" | "onChange">;

interface Failures {
  readonly sinceMs: number;
  count: number;
}

/** Records the requests that changed something, or were refused, and how the jobs ended that they began. */
export class RequestAudit {
  readonly #audit: AuditLog;
  readonly #clock: Clock;
  readonly #jobs: Jobs;
  readonly #failures = new Map<string, Failures>();
  /** Who asked for the jobs that are under way. */
  readonly #askers = new Map<string, string>();

  constructor(audit: AuditLog, clock: Clock, jobs: Jobs) {
    this.#audit = audit;
    this.#clock = clock;
    this.#jobs = jobs;
    jobs.onChange((job) => this.#noteEnd(job));
  }

  note({ method, url, caller, role, outcome, body, job }: WriteNote): void {
    const isWelcome = outcome === "done" || outcome === "accepted";
    const leftOut = isWelcome ? 0 : this.#countFailure(caller);
    if (leftOut === undefined) return;
    const asked = safeFields(typeof body === "object" && body !== null ? { ...body } : {});
    const detail = { method, url, role, outcome, ...(job === undefined ? {} : { job }), asked };
    const before = leftOut === 0 ? {} : { left_out_before: leftOut };
    this.#audit.record({ action: "api.write", by: caller, detail: { ...detail, ...before } });
    if (job === undefined) return;
    const known = this.#jobs.list().find(({ id }) => id === job);
    if (known === undefined) return; // asked for again with its Idempotency-Key, long after its end
    this.#askers.set(job, caller);
    this.#noteEnd(known); // a short one may have ended before this was told
  }

  /** A request is answered when its job is accepted: how that ends is told then. */
  #noteEnd({ id: job, kind, state, finishedAtMs, error }: Job): void {
    const by = this.#askers.get(job);
    if (by === undefined || finishedAtMs === undefined) return;
    this.#askers.delete(job);
    this.#audit.record({
      action: "job.ended",
      by,
      detail: { job, kind, outcome: state === "failed" ? error?.code : state },
    });
  }

  /** How many failures of the caller were left out in the minute before; undefined: so is this one. */
  #countFailure(caller: string): number | undefined {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#failures.get(caller);
    if (known !== undefined && nowMs - known.sinceMs < MINUTE_MS) {
      known.count += 1;
      return known.count > FAILED_PER_MINUTE ? undefined : 0;
    }
    this.#failures.delete(caller);
    const [oldest] = this.#failures.keys();
    if (this.#failures.size >= CALLERS_MAX && oldest !== undefined) this.#failures.delete(oldest);
    this.#failures.set(caller, { sinceMs: nowMs, count: 1 });
    return Math.max(0, (known?.count ?? 0) - FAILED_PER_MINUTE);
  }
}

function nameOf(actor: Actor | undefined): string {
  if (actor === undefined) return "unknown";
  const { program, pid, user, loginUser } = actor;
  const login = loginUser === undefined ? "" : `, logged in as ${loginUser}`;
  return `${program === "" ? "a program that ended" : program} (process ${String(pid)}, user ${user ?? "unknown"}${login})`;
}
