/** `/metrics` of a daemon that has done nothing yet: every promised metric is there, with its type and labels. */
import { execFile } from "node:child_process";
import { expect } from "chai";
import { launchIn } from "../support/launched.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** The names that scripts, dashboards and rules rely on, as far as what they measure is built: type, then labels. */
const PROMISED: Readonly<Record<string, readonly [type: string, ...labels: string[]]>> = {
  holdfast_backup_last_success_timestamp_seconds: ["gauge", "source"],
  holdfast_backup_last_attempt_timestamp_seconds: ["gauge", "source"],
  holdfast_backup_last_duration_seconds: ["gauge", "source"],
  holdfast_backups_total: ["counter", "outcome", "source", "type"],
  holdfast_protect_lag_seconds: ["histogram"],
  holdfast_source_files: ["gauge", "source"],
  holdfast_source_bytes: ["gauge", "source"],
  holdfast_source_pending_changes: ["gauge", "source"],
  holdfast_source_rpo_seconds: ["gauge", "source"],
  holdfast_source_rto_seconds: ["gauge", "source"],
  holdfast_watch_degraded: ["gauge", "source"],
  holdfast_watch_events_total: ["counter", "kind"],
  holdfast_watch_rescans_total: ["counter", "reason"],
  holdfast_files_lost_total: ["counter", "kind", "source"],
  holdfast_recoveries_total: ["counter", "outcome", "source"],
  holdfast_recovery_strategy_total: ["counter", "outcome", "strategy"],
  holdfast_recovery_duration_seconds: ["histogram"],
  holdfast_store_bytes: ["gauge", "kind"],
  holdfast_store_chunks: ["gauge"],
  holdfast_store_corrupt_chunks: ["gauge", "tier"],
  holdfast_tier_used_bytes: ["gauge", "tier"],
  holdfast_tier_free_bytes: ["gauge", "tier"],
  holdfast_verify_oldest_age_seconds: ["gauge"],
  holdfast_alerts_total: ["counter", "channel", "outcome"],
  holdfast_alert_outbox_oldest_age_seconds: ["gauge"],
  holdfast_config_last_reload_success: ["gauge"],
  holdfast_build_info: ["gauge", "commit", "node", "version"],
  backup_verification_last_success_timestamp: ["gauge", "source"],
  backup_verification_restore_duration_seconds: ["gauge", "source"],
  backup_verification_checksum_failures: ["gauge", "source"],
};
const CONFIGURATION = {
  alerts: {
    channels: { mail: { email: { smtp: "smtp://127.0.0.1:1", from: "a@example.org", to: ["b@example.org"] } } },
  },
};

describe("the metrics of a daemon that has just started", () => {
  const folder = useTempFolder("metrics");

  async function fresh(): Promise<string> {
    const paths = [await folder().folder("data")];
    await using daemon = await launchIn(folder(), { ...CONFIGURATION, sources: [{ name: "data", paths }] });
    return await daemon.services.system.metrics();
  }

  it("hold every promised name with its type and labels", async () => {
    const text = await fresh();
    for (const [name, [type, ...labels]] of Object.entries(PROMISED)) {
      expect(text, name).to.contain(`# TYPE ${name} ${type}\n`);
      const sample = new RegExp(`^${name}${type === "histogram" ? "_count" : ""}(?:{(.*)})? `, "m").exec(text);
      expect(sample, `${name} has a series`).to.not.equal(null);
      const found = [...(sample?.[1] ?? "").matchAll(/([a-z_]+)="/g)].map(([, label]) => label ?? "");
      expect(found.sort(), name).to.deep.equal(labels);
    }
  });

  it("say that the configuration was taken, and pass promtool", async function () {
    requirePrograms(this, "promtool");
    const text = await fresh();
    expect(text).to.contain("holdfast_config_last_reload_success 1\n");
    const said = await new Promise<string>((resolve) => {
      const child = execFile("promtool", ["check", "metrics"], (error, out, words) =>
        resolve(error === null ? "" : out + words),
      );
      child.stdin?.end(text);
    });
    expect(said).to.equal("");
  });

  it("tell what the store holds, and what was verified, after a backup", async () => {
    await folder().write("data/file", "content");
    const sources = [{ name: "data", paths: [folder().at("data")] }];
    await using daemon = await launchIn(folder(), { sources });
    await daemon.operation.start();
    await daemon.operation.started();
    await daemon.parts.storeGauges.count();
    const { id } = await daemon.services.backups.verify({ backup_id: "latest", level: "blocks" });
    expect((await daemon.parts.jobs.ended(id)).state).to.equal("done");
    const text = await daemon.services.system.metrics();
    expect(text)
      .to.contain('holdfast_store_bytes{kind="logical"} 7\n')
      .and.to.match(/^holdfast_store_chunks [1-9]/m);
    expect(text).to.match(/^backup_verification_last_success_timestamp{source="data"} 1\d{9}/m);
  });
});
