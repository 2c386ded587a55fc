/** How long work shows itself: one redrawn line on a terminal, a line every 10 s elsewhere, nothing with `--quiet`. */
import { formatSize } from "../base/units.js";
import type { JobDocument } from "../api/services.js";
import type { Output } from "./output.js";

const CALM_MS = 10_000;

export class Progress {
  readonly #output: Output;
  #saidMs: number | undefined;
  #isDrawn = false;

  constructor(output: Output) {
    this.#output = output;
  }

  /** Shows how a job stands now. */
  show(job: JobDocument, nowMs: number): void {
    if (this.#output.quiet || this.#output.json) return;
    const text = `${job.kind}: ${progressText(job)}`;
    if (this.#output.isInteractive) {
      this.#output.redraw(text);
      this.#isDrawn = true;
      return;
    }
    this.#saidMs ??= nowMs;
    if (nowMs - this.#saidMs < CALM_MS) return;
    this.#saidMs = nowMs;
    this.#output.say(text);
  }

  /** Clears what was drawn. */
  end(): void {
    if (this.#isDrawn) this.#output.redraw("");
    this.#isDrawn = false;
  }
}

function progressText(job: JobDocument): string {
  const { progress } = job;
  if (progress === null) return job.state;
  const files = progress.files_total === null ? "" : ` of ${progress.files_total}`;
  const bytes = progress.bytes_total === null ? "" : ` of ${formatSize(progress.bytes_total)}`;
  return `${progress.files_done}${files} files, ${formatSize(progress.bytes_done)}${bytes}`;
}
