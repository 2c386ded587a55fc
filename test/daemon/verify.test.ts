/** Verifying a backup: real proof of it, noted where people and Prometheus look, and damage told by name. */
import { chmod, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import type { JobDocument, VerifyReport, VerifyRequest } from "../../src/api/services.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("verify", () => {
  const folder = useTempFolder("verify");

  async function backedUp(): Promise<DaemonInProcess> {
    for (const name of ["a", "b", "c"]) await folder().write(`data/${name}`, `${name}${"x".repeat(20_000)}`);
    const daemon = await launchIn(folder(), { sources: [{ name: "data", paths: [folder().at("data")] }] });
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
    return daemon;
  }

  async function verify(daemon: DaemonInProcess, request: Omit<VerifyRequest, "backup_id">): Promise<VerifyReport> {
    const { id }: JobDocument = await daemon.services.backups.verify({ backup_id: "latest", ...request });
    const job = await daemon.services.system.job(id, 20_000, new AbortController().signal);
    expect(job.error).to.equal(null);
    return job.result as VerifyReport;
  }

  it("proves every file by its digest, and a sample by restoring it", async () => {
    await using daemon = await backedUp();
    const whole = { status: "passed", files_checked: 3 };
    expect(await verify(daemon, { level: "checksum" })).to.include({ ...whole, bytes_checked: 60_003 });
    expect(await verify(daemon, { level: "manifest" })).to.include({ ...whole, bytes_checked: 0 });
    const sampled = await verify(daemon, { level: "restore", sample: 2 });
    expect(sampled).to.include({ status: "passed", files_checked: 2, bytes_checked: 40_002 });
    const { validation } = await daemon.services.backups.show("latest");
    expect(validation).to.include({ integrity_check: "passed", restore_test: "passed" });
    const metrics = await daemon.services.system.metrics();
    expect(metrics).to.match(/^holdfast_restore_test_last_success_timestamp_seconds\{source="data"\} 1\d{9}/m);
    expect(metrics).to.match(/^holdfast_restore_test_duration_seconds\{source="data",phase="restore"\} 0\.\d*[1-9]/m);
    expect(metrics).to.match(/^backup_verification_last_success_timestamp\{source="data"\} 1\d{9}/m);
  });

  it("fails with the names of the files that cannot be had", async () => {
    await using daemon = await backedUp();
    for (const name of await readdir(folder().at("store", "packs", "d"), { recursive: true, withFileTypes: true })) {
      if (!name.isFile()) continue;
      const pack = join(name.parentPath, name.name);
      const bytes = await readFile(pack);
      bytes.fill(0, 200, bytes.length - 200);
      await chmod(pack, 0o600);
      await writeFile(pack, bytes);
    }
    const report = await verify(daemon, { level: "checksum" });
    expect(report.status).to.equal("failed");
    expect(report.problems.map(({ path }) => path).sort()).to.deep.equal(
      ["a", "b", "c"].map((name) => folder().at("data", name)),
    );
    const restored = await verify(daemon, { level: "restore", sample: 1 });
    expect(restored.status).to.equal("failed");
    expect(restored.problems).to.have.length(1);
  });
});
