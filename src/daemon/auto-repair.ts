/** What alert rules may do by themselves: try a failed backup or recovery again, make room by retention. */
import type { AutoPorts } from "../alerts/auto-actions.js";
import type { Condition } from "../alerts/rules.js";
import type { JobRunner } from "../policy/job-runner.js";
import type { Healer } from "../recovery/healer.js";
import { batchDocument } from "./documents.js";
import { startJob, type WorkContext } from "./job-documents.js";

export interface RepairPorts {
  readonly jobs: JobRunner;
  readonly healer: Healer;
  /** Makes an incremental backup of one source. */
  readonly backUp: (source: string, context: WorkContext) => Promise<unknown>;
  /** Applies retention. */
  readonly cleanUp: (context: WorkContext) => Promise<unknown>;
}

export class AutoRepair implements AutoPorts {
  readonly #ports: RepairPorts;

  constructor(ports: RepairPorts) {
    this.#ports = ports;
  }

  async retry(condition: Condition, source: string, cause: string): Promise<void> {
    const { jobs, healer, backUp } = this.#ports;
    if (condition === "backup_failed" || condition === "backup_overdue") {
      startJob(jobs, "backup", "write", (job) => backUp(source, job));
    } else if (condition === "recovery_failed" && cause !== "") {
      startJob(jobs, "recover", "heal", async (job) => batchDocument(await healer.approve(cause, job.signal)));
    }
    await Promise.resolve();
  }

  async cleanup(): Promise<void> {
    startJob(this.#ports.jobs, "cleanup", "write", (job) => this.#ports.cleanUp(job));
    await Promise.resolve();
  }
}
