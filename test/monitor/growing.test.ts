/** Files that may only grow, logs that are rotated, and files that go together: real appends, the real logrotate. */
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "chai";
import type { SourceSettings } from "../../src/monitor/ports.js";
import type { ProtectionMode } from "../../src/monitor/rules.js";
import { requirePrograms } from "../support/requirements.js";
import { WatchBench } from "../support/watch-bench.js";

const ROUNDS = process.env["HOLDFAST_TESTS_THOROUGH"] === "1" ? 6 : 2;
const LINES = Array.from({ length: 200 }, (_none, index) => `line ${String(index)} of the log\n`).join("");

function mode(name: ProtectionMode): SourceSettings {
  return { rules: [{ match: "**", mode: name }], restMs: 50, graceMs: 300 };
}

async function protectedFiles(names: readonly string[], settings: SourceSettings): Promise<WatchBench> {
  const bench = await WatchBench.create();
  for (const name of names) await bench.folder.write(name, `${name}\n${LINES}`);
  await bench.protect(settings);
  await bench.quiet(200);
  bench.clear();
  return bench;
}

describe("a file that may only grow", () => {
  for (const name of ["append-only", "growing"] as const) {
    it(`is a new version when something is appended (${name})`, async () => {
      await using bench = await protectedFiles(["app.log"], mode(name));
      for (let round = 0; round < 2; round += 1) {
        bench.clear();
        appendFileSync(bench.folder.at("app.log"), `more ${String(round)}\n`);
        await bench.until("the version", () => bench.paths("file.changed").includes("app.log"));
        await bench.quiet(200);
      }
      expect(bench.losses).to.deep.equal([]);
    });

    it(`is damaged when it is cut, rewritten in place, or gone (${name})`, async () => {
      await using bench = await protectedFiles(["cut.log", "rewritten.log", "replaced.log", "gone.log"], mode(name));
      truncateSync(bench.folder.at("cut.log"), 100);
      writeFileSync(bench.folder.at("rewritten.log"), `REWRITTEN.log\n${LINES} and more`);
      writeFileSync(bench.folder.at("new"), "something else of its own\n");
      renameSync(bench.folder.at("new"), bench.folder.at("replaced.log"));
      unlinkSync(bench.folder.at("gone.log"));
      await bench.until("all are told", () => bench.losses.length === 4);
      const kinds = Object.fromEntries(
        bench.losses.map(({ path, kind }) => [path.slice(bench.folder.path.length + 1), kind]),
      );
      expect(kinds).to.deep.equal({
        "cut.log": "truncated",
        "rewritten.log": "overwritten",
        "replaced.log": "truncated",
        "gone.log": "deleted",
      });
      expect(bench.paths("file.changed")).not.to.include.members(["cut.log", "rewritten.log", "replaced.log"]);
      for (const known of ["cut.log", "rewritten.log"])
        expect(bench.monitor.lastGood(bench.folder.bytes(known))?.stat.sizeBytes).to.equal(`${known}\n${LINES}`.length);
    });
  }

  it("is damaged when it is cut by a program that holds it open and writes on", async () => {
    await using bench = await protectedFiles(["app.log"], mode("growing"));
    truncateSync(bench.folder.at("app.log"), 0);
    const writing = setInterval(() => appendFileSync(bench.folder.at("app.log"), "again\n"), 150);
    try {
      await bench.until("it is told", () => bench.losses.length > 0, 8000);
    } finally {
      clearInterval(writing);
    }
    expect(bench.losses[0]?.kind).to.equal("truncated");
  });

  it("is lost from an append-only folder also when it goes by a tool, or again after it was put back", async () => {
    await using bench = await protectedFiles(["uploads/a", "uploads/b"], mode("append-only"));
    const path = bench.folder.bytes("uploads/a");
    const record = bench.monitor.lastGood(path);
    if (record === undefined) throw new Error("not registered");
    bench.monitor.registry.put("data", path, { ...record, healedAtMs: Date.now() });
    unlinkSync(bench.folder.at("uploads/a"));
    await bench.until("it is told", () => bench.losses.length === 1);
    renameSync(bench.folder.at("uploads/b"), bench.folder.at("uploads/c"));
    await bench.until("the move is known", () => bench.paths("file.removed").includes("uploads/b"));
    expect(bench.losses).to.have.length(1);
  });
});

describe("rotation of a growing log", () => {
  const CASES = [
    { name: "create, delaycompress", options: "rotate 1\ncompress\ndelaycompress\ncreate" },
    { name: "create, compressed at once", options: "rotate 1\ncompress\ncreate" },
    { name: "copytruncate", options: "rotate 1\ncopytruncate" },
    { name: "copytruncate, compressed at once", options: "rotate 1\ncopytruncate\ncompress" },
    { name: "dates for numbers, copytruncate", options: "rotate 1\ncopytruncate\ndateext\ndateformat -%Y%m%d-%s" },
    { name: "nocreate", options: "rotate 1\nnocreate" },
  ];
  for (const { name, options } of CASES) {
    it(`is no loss by logrotate: ${name}`, async function () {
      requirePrograms(this, "logrotate", "gzip");
      await using bench = await protectedFiles([], { ...mode("growing"), mass: { files: 1000, share: 1 } });
      const rotate = (): void => {
        execFileSync("logrotate", ["-f", "-s", bench.state.at("rotate.state"), bench.state.at("rotate.conf")]);
      };
      await bench.state.write(
        "rotate.conf",
        `${bench.folder.at("app.log")} {\n${options}\nmissingok\nsu root root\n}\n`,
      );
      chmodSync(bench.state.at("rotate.conf"), 0o644);
      chmodSync(bench.folder.path, 0o755);
      for (let round = 0; round < ROUNDS; round += 1) {
        appendFileSync(bench.folder.at("app.log"), `round ${String(round)}\n${LINES}`);
        await bench.until(
          "the lines are known",
          () =>
            bench.repository.current(bench.folder.bytes("app.log"), "data")?.node.stat.sizeBytes ===
            `round 0\n${LINES}`.length,
        );
        // Lines come between the last version and the rotation, as in a log that is in use.
        appendFileSync(bench.folder.at("app.log"), "one more\n");
        rotate();
        await bench.quiet(500);
        if (options.includes("-%s")) await delay(1000); // the name is its second
        expect(bench.losses, `round ${String(round)}: ${readdirSync(bench.folder.path).join(" ")}`).to.deep.equal([]);
        expect(bench.events("mass.loss")).to.deep.equal([]);
      }
    });
  }

  it("takes the oldest away by age, and nothing else", async () => {
    await using bench = await protectedFiles([], mode("growing"));
    for (const [index, name] of ["app.log.3.gz", "app.log.2.gz", "app.log.1", "app.log"].entries()) {
      await bench.folder.write(name, `${name}${LINES}`);
      execFileSync("touch", ["-d", `2025-01-0${String(index + 1)}`, bench.folder.at(name)]);
    }
    await bench.until("all are live", () => bench.repository.entries.size >= 4);
    await bench.quiet(200);
    bench.clear();
    unlinkSync(bench.folder.at("app.log.3.gz"));
    await bench.until("it is a removal", () => bench.paths("file.removed").includes("app.log.3.gz"));
    unlinkSync(bench.folder.at("app.log.1"));
    await bench.until("it is a loss", () => bench.paths("file.lost").includes("app.log.1"));
    expect(bench.losses).to.have.length(1);
  });
});

describe("files that go together", () => {
  it("are lost when a part of them goes where deletions are allowed, and meant when all go", async () => {
    const names = ["maps/town.shp", "maps/town.dbf", "maps/readme.txt"];
    await using bench = await protectedFiles(names, { mode: "mirror", groups: ["maps/*.{shp,dbf}"] });
    unlinkSync(bench.folder.at("maps/town.shp"));
    unlinkSync(bench.folder.at("maps/readme.txt"));
    await bench.until("the part is told", () => bench.losses.length === 1);
    await bench.until("the other is allowed", () => bench.paths("file.removed").includes("maps/readme.txt"));
    expect(bench.losses[0]?.detail).to.match(
      /town\.shp is gone: others of its group maps\/\*\.\{shp,dbf\} are still there/,
    );
    await bench.folder.write("maps/town.shp", "new");
    await bench.until("it is back", () => bench.paths("file.returned").includes("maps/town.shp"));
    await bench.quiet(200);
    bench.clear();
    rmSync(bench.folder.at("maps"), { recursive: true });
    await bench.until("all are allowed", () => bench.paths("file.removed").length >= 2);
    await bench.quiet(200);
    expect(bench.losses).to.deep.equal([]);
  });
});
