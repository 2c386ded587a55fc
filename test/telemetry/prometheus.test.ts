/** The metrics as Prometheus sees them: names, types, presence from the start; judged by Prometheus' own promtool. */
import { execFile } from "node:child_process";
import { expect } from "chai";
import { silentObserver } from "../../src/base/observe.js";
import { Metrics } from "../../src/telemetry/prometheus.js";
import {
  SOURCE_GAUGES,
  VERIFICATION_METRICS,
  addSourceSeries,
  removeSourceSeries,
  updateSourceTargets,
} from "../../src/telemetry/series.js";
import { requirePrograms } from "../support/requirements.js";

function open(processMetrics = false): Metrics {
  return new Metrics({ log: silentObserver.log, processMetrics, build: { version: "0.1.0", commit: "abc" } });
}

function series(text: string): readonly string[] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
}

async function promtool(args: readonly string[], input: string): Promise<{ code: number; output: string }> {
  return await new Promise((resolve) => {
    const child = execFile("promtool", [...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), output: stdout + stderr });
    });
    child.stdin?.end(input);
  });
}

describe("the metrics", () => {
  it("count, set, observe, and give the same metric to whoever declares it again", async () => {
    const metrics = open();
    const spec = { name: "holdfast_x_total", help: "X.", labels: ["kind"] } as const;
    metrics.counter(spec).add(2, { kind: "a" });
    metrics.counter(spec).add(1, { kind: "a" });
    metrics.gauge({ name: "holdfast_y", help: "Y." }).set(7);
    metrics.histogram({ name: "holdfast_z_seconds", help: "Z.", buckets: [1, 2] }).observe(1.5);
    const text = await metrics.render();
    expect(series(text)).to.include.members([
      'holdfast_x_total{kind="a"} 3',
      "holdfast_y 7",
      'holdfast_z_seconds_bucket{le="1"} 0',
      'holdfast_z_seconds_bucket{le="2"} 1',
      "holdfast_z_seconds_count 1",
    ]);
    expect(metrics.contentType).to.contain("text/plain");
  });

  it("refuse a metric that is declared in two different ways", () => {
    const metrics = open();
    metrics.counter({ name: "holdfast_x_total", help: "X.", labels: ["a", "b"] });
    metrics.counter({ name: "holdfast_x_total", help: "X.", labels: ["b", "a"] });
    expect(() => metrics.counter({ name: "holdfast_x_total", help: "X.", labels: ["a"] })).to.throw(
      "two different ways",
    );
    expect(() => metrics.gauge({ name: "holdfast_x_total", help: "X.", labels: ["a", "b"] })).to.throw(
      "two different ways",
    );
  });

  it("drop and count label sets beyond the limit of a metric", async () => {
    const metrics = open();
    const gauge = metrics.gauge({ name: "holdfast_y", help: "Y.", labels: ["path"] });
    for (let index = 0; index < 20_050; index += 1) gauge.set(1, { path: String(index) });
    gauge.remove({ path: "0" });
    gauge.set(1, { path: "new" });
    const lines = series(await metrics.render());
    expect(lines.filter((line) => line.startsWith("holdfast_y{"))).to.have.length(20_000);
    expect(lines).to.include("holdfast_metric_series_dropped_total 50");
  }).timeout(30_000);

  it("of a source exist at zero from the start, with its targets, and go with it", async () => {
    const metrics = open();
    addSourceSeries(metrics, { name: "photos", registeredAtMs: 5000, rpoMs: 900_000 });
    let lines = series(await metrics.render());
    for (const spec of [...Object.values(SOURCE_GAUGES), ...Object.values(VERIFICATION_METRICS)])
      expect(
        lines.some((line) => line.startsWith(`${spec.name}{source="photos"}`)),
        spec.name,
      ).to.equal(true);
    expect(lines).to.include.members([
      'holdfast_backup_last_success_timestamp_seconds{source="photos"} 0',
      'holdfast_source_rpo_seconds{source="photos"} 900',
      'holdfast_source_registered_timestamp_seconds{source="photos"} 5',
      'holdfast_backups_total{source="photos",type="full",outcome="failed"} 0',
    ]);
    metrics.gauge(SOURCE_GAUGES.lastSuccess).set(7, { source: "photos" });
    updateSourceTargets(metrics, { name: "photos", registeredAtMs: 5000, rpoMs: 60_000 });
    lines = series(await metrics.render());
    expect(lines).to.include('holdfast_backup_last_success_timestamp_seconds{source="photos"} 7');
    removeSourceSeries(metrics, "photos");
    expect(
      series(await metrics.render()).filter((line) => line.includes("photos") && !line.includes("_total")),
    ).to.deep.equal([]);
  });

  it("say what runs", async () => {
    const node = process.version;
    expect(series(await open().render())).to.include(
      `holdfast_build_info{version="0.1.0",commit="abc",node="${node}"} 1`,
    );
  });

  it("leave the event loop free while many series are rendered, and render once for scrapes at the same time", async () => {
    const metrics = open();
    for (let index = 0; index < 300; index += 1)
      addSourceSeries(metrics, { name: `s${String(index)}`, registeredAtMs: 1 });
    let turns = 0;
    const timer = setInterval(() => (turns += 1), 0);
    const [first, second] = await Promise.all([metrics.render(), metrics.render()]);
    clearInterval(timer);
    expect(second).to.equal(first);
    expect(turns).to.be.greaterThan(3);
  });

  it("pass `promtool check metrics`, process metrics included", async function () {
    requirePrograms(this, "promtool");
    const metrics = open(true);
    addSourceSeries(metrics, { name: 'odd "name"\n\\', registeredAtMs: 1 });
    metrics.histogram({ name: "holdfast_protect_lag_seconds", help: "Lag." }).observe(0.1);
    const text = await metrics.render();
    expect(text).to.contain("process_cpu_seconds_total").and.contain("nodejs_eventloop_lag_seconds");
    const { code, output } = await promtool(["check", "metrics"], text);
    expect(output).to.equal("");
    expect(code).to.equal(0);
  });
});
