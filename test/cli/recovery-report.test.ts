/** The report of a recovery as a file: three forms that say the same, and names of any bytes that change none of them. */
import { readFile, stat, symlink } from "node:fs/promises";
import { expect } from "chai";
import { SaxesParser } from "saxes";
import fc from "fast-check";
import type { BatchReport, CandidateDocument, RecoverReport } from "../../src/api/services.js";
import { Output } from "../../src/cli/output.js";
import { reportOf } from "../../src/cli/recovery-document.js";
import { recoveryHtml } from "../../src/cli/recovery-html.js";
import { checkReportName, writeReport } from "../../src/cli/recovery-report.js";
import { printRecovery } from "../../src/cli/recovery-screen.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const ABOUT = { version: "1.2.3", nowMs: Date.UTC(2026, 0, 15, 12) };
const HOSTILE = "</td><script>alert(1)</script>\"'&| `x` \u001b[31m\u202egpj.exe\n# title\u0000\ufffd";

describe("the report of a recovery", () => {
  const folder = useTempFolder("recovery-report");

  it("says the same in JSON, Markdown and HTML", async () => {
    const report = reportOf(batch([result({}), result({ path: "/data/gone", outcome: "failed" })]), ABOUT);
    const texts = await Promise.all(
      ["a.json", "a.md", "a.HTML"].map(async (name) => {
        await writeReport(folder().at(name), report);
        return await readFile(folder().at(name), "utf8");
      }),
    );
    expect(JSON.parse(texts[0] ?? "")).to.deep.include({ report: "recovery", healed: 1, failed: 1, holdfast: "1.2.3" });
    for (const text of texts.slice(1))
      for (const part of ["/data/a.json", "/data/gone", "latest", "1 of 2 came back", "it is the last good content"])
        expect(text).to.contain(part);
    expect((await stat(folder().at("a.json"))).mode & 0o777).to.equal(0o600);
  });

  it("tells of one file that was only looked at that nothing was written back", () => {
    const report = reportOf(result({ outcome: "explained" }), ABOUT);
    expect(report).to.deep.include({ paths_total: 1, is_explanation: true, healed: 0 });
    expect(recoveryHtml(report)).to.contain("What could be recovered").and.to.contain("Nothing was written back");
  });

  it("shows names of any bytes and interprets none", async () => {
    const hostile = result({ path: HOSTILE, message: HOSTILE, origin: HOSTILE, candidates: [candidate(HOSTILE)] });
    const report = reportOf(batch([hostile]), ABOUT);
    const html = recoveryHtml(report);
    expect(html).not.to.contain("<script>").and.not.to.contain("\u202e").and.not.to.contain("\u001b");
    expect(html).to.contain("&#60;script&#62;").and.to.contain("\\x1b");
    await writeReport(folder().at("hostile.md"), report);
    const text = await readFile(folder().at("hostile.md"), "utf8");
    expect(text).not.to.contain("<script>").and.not.to.contain("\n# title");
    const widths = text
      .split("\n")
      .filter((line) => line.startsWith("| "))
      .map((line) => line.split(/(?<!\\)\|/).length);
    expect(new Set(widths).size).to.be.at.most(2);
  });

  it("is well-formed HTML with nothing from elsewhere, whatever the texts are", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const told = result({ path: text, message: text, notes: [text], candidates: [candidate(text)] });
        const html = recoveryHtml(reportOf(batch([told]), ABOUT));
        const parser = new SaxesParser({});
        const names = new Set<string>();
        parser.on("opentag", (tag) => names.add(tag.name));
        parser.on("error", (error) => {
          throw error;
        });
        // XML wants closed empty elements; nothing else differs.
        parser
          .write(
            html
              .replace(/<(meta [^>]*|br)>/g, "<$1/>")
              .replace("<!doctype html>\n", "")
              .replace(" open>", ">"),
          )
          .close();
        for (const foreign of ["script", "img", "link", "iframe", "a"]) expect(names.has(foreign)).to.equal(false);
      }),
      { numRuns: 50 },
    );
  });

  it("tells apart names whose bytes are no text", () => {
    const path = (byte: number): Partial<RecoverReport> => ({
      path: "/data/\ufffd",
      path_b64: Buffer.concat([Buffer.from("/data/"), Buffer.from([byte])]).toString("base64"),
    });
    const html = recoveryHtml(reportOf(batch([result(path(0xff)), result(path(0xfe))]), ABOUT));
    expect(html).to.contain("/data/\\xff").and.to.contain("/data/\\xfe");
  });

  it("replaces a link of its name instead of writing where that leads", async () => {
    await folder().write("elsewhere", "mine");
    await symlink(folder().at("elsewhere"), folder().at("link.json"));
    await writeReport(folder().at("link.json"), reportOf(batch([]), ABOUT));
    expect(await readFile(folder().at("elsewhere"), "utf8")).to.equal("mine");
  });

  it("refuses a name that says no form, before any work", async () => {
    expect(() => checkReportName("report.pdf")).to.throw(/\.json, \.md, \.html/);
    expect(() => checkReportName(undefined)).not.to.throw();
    const written = writeReport(folder().at("no/such/folder.json"), reportOf(batch([]), ABOUT));
    expect(await rejection(written)).to.have.property("code", "USAGE");
  });
});

describe("what a person sees of a recovery", () => {
  it("shows each candidate with its score, the reasons below, and where nothing was", () => {
    const lines: string[] = [];
    const sink = { write: (data: string | Uint8Array) => lines.push(Buffer.from(data).toString("utf8")) };
    const output = new Output({ stdout: sink, stderr: sink, json: false, quiet: false, verbose: false, env: {} });
    printRecovery(output, result({ outcome: "explained", candidates: [candidate("version 1"), offer] }));
    const text = lines.join("");
    expect(text).to.match(/1 {2}taken {6}100 {2}latest_backup {2}version 1 {2,}2026-01-15 11:00:00Z/);
    expect(text).to.contain("  2  offered: it is older").and.to.contain("points: validity 30, freshness 12");
    expect(text).to.contain("to get it: cp a b").and.to.contain("nothing in: git_history, temp_files (could not look)");
    expect(text).to.contain("note: git_history: the file is in no git work tree");
  });
});

function candidate(origin: string): CandidateDocument {
  return {
    strategy: "latest_backup",
    origin,
    fidelity: "exact",
    modified_at: "2026-01-15T11:00:00.000Z",
    age_seconds: 3600,
    size_bytes: 1234,
    sha256: "a".repeat(64),
    checks: ["identity: the last good content, byte for byte", origin],
    score: 100,
    score_parts: { identity: 100, validity: 0, freshness: 0, completeness: 0, provenance: 0 },
    verdict: "taken",
    why: "it is the last good content",
    command: "holdfast recover a",
  };
}

const offer: CandidateDocument = {
  ...candidate("editor backup"),
  strategy: "temp_files",
  score: 42,
  score_parts: { identity: 0, validity: 30, freshness: 12, completeness: 0, provenance: 0 },
  verdict: "offered",
  why: "it is older",
  command: "cp a b",
};

function result(about: Partial<RecoverReport>): RecoverReport {
  return {
    path: "/data/a.json",
    outcome: "healed",
    message: "from version 1",
    incident_id: "inc_1",
    strategy: "latest_backup",
    origin: "version 1",
    identical: true,
    age_seconds: 3600,
    duration_ms: 12,
    candidates: [candidate("version 1")],
    searched: [
      { strategy: "latest_backup", outcome: "taken", found: 1 },
      { strategy: "git_history", outcome: "nothing", found: 0 },
      { strategy: "temp_files", outcome: "failed", found: 0 },
    ],
    notes: ["git_history: the file is in no git work tree"],
    gaps: [],
    manual_commands: [],
    ...about,
  };
}

function batch(results: readonly RecoverReport[]): BatchReport {
  const count = (outcome: string): number => results.filter((each) => each.outcome === outcome).length;
  return {
    started_at: "2026-01-15T12:00:00.000Z",
    paths_total: results.length,
    healed: count("healed"),
    failed: count("failed"),
    returned: 0,
    duration_ms: 24,
    results,
  };
}
