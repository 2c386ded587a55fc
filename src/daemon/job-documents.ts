/** Jobs of the runner as documents of the API, and back: progress in its snake_case. Pure. */
import { isoTime } from "../base/clock.js";
import type { JobDocument, JobProgress as ProgressDocument } from "../api/services.js";
import type { Job, JobLane, JobRunner } from "../policy/job-runner.js";

/** What long work is handed: when to stop, and where to tell how far it is. */
export interface WorkContext {
  readonly signal: AbortSignal;
  progress(progress: ProgressDocument): void;
}

/** Starts work on a lane and gives its document. Throws LIMIT_REACHED. */
export function startJob(
  runner: JobRunner,
  kind: string,
  lane: JobLane,
  work: (context: WorkContext) => Promise<unknown>,
): JobDocument {
  const job = runner.start(kind, lane, (running) =>
    work({
      signal: running.signal,
      progress: (progress) =>
        running.progress({
          filesDone: progress.files_done,
          filesTotal: progress.files_total ?? undefined,
          bytesDone: progress.bytes_done,
          bytesTotal: progress.bytes_total ?? undefined,
        }),
    }),
  );
  return jobDocument(job);
}

export function jobDocument(job: Job): JobDocument {
  const { progress, error } = job;
  return {
    id: job.id,
    kind: job.kind,
    state: job.state,
    created_at: isoTime(job.createdAtMs),
    started_at: job.startedAtMs === undefined ? null : isoTime(job.startedAtMs),
    finished_at: job.finishedAtMs === undefined ? null : isoTime(job.finishedAtMs),
    progress:
      progress === undefined
        ? null
        : {
            files_done: progress.filesDone,
            files_total: progress.filesTotal ?? null,
            bytes_done: progress.bytesDone,
            bytes_total: progress.bytesTotal ?? null,
          },
    result: job.result ?? null,
    error: error === undefined ? null : { code: error.code, message: error.message, hint: error.hint },
  };
}
