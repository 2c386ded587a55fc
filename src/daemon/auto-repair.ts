/** What alert rules may do by themselves: try a failed backup or recovery again, make room by retention. */
import type { AutoPorts } from "../alerts/auto-actions.js";
import type { Condition } from "../alerts/rules.js";
import type { JobRunner } from "../policy/job-runner.js";
import type { Healer } from "../recovery/healer.js";
import { batchDocument } from "./documents.js";
import { startJob } from "./job-documents.js";
import type { Plan } from "./plan.js";

export interface RepairPorts {
  readonly jobs: JobRunner;
  readonly healer: Healer;
  readonly plan: Plan;
}

export class AutoRepair implements AutoPorts {
  readonly #ports: RepairPorts;

  constructor(ports: RepairPorts) {
    this.#ports = ports;
  }

  async retry(condition: Condition, source: string, cause: string): Promise<void> {
    const { jobs, healer, plan } = this.#ports;
    if (condition === "backup_failed" || condition === "backup_overdue") {
      startJob(jobs, "backup", "write", (job) =>
        plan.backUp({ type: "incremental", sources: [source], tags: ["retry"], compression: true }, job),
      );
    } else if (condition === "recovery_failed" && cause !== "") {
      startJob(jobs, "recover", "heal", async (job) => batchDocument(await healer.approve(cause, job.signal)));
    }
    await Promise.resolve();
  }

  async cleanup(): Promise<void> {
    startJob(this.#ports.jobs, "cleanup", "write", (job) => this.#ports.plan.cleanUpUnasked(job));
    await Promise.resolve();
  }
}
