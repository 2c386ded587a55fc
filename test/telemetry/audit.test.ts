/** The audit log: a chain in which every change shows, that outlives crashes and stays within its size. */
import { appendFileSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import { AuditLog, type AuditEntry } from "../../src/telemetry/audit.js";
import { useTempFolder } from "../support/temp-folder.js";

const NEVER = new AbortController().signal;

describe("the audit log", () => {
  const folder = useTempFolder("audit");
  const logOf = (sizes: { fileBytesMax?: number; filesMax?: number } = {}): AuditLog =>
    new AuditLog({ folder: folder().at("audit"), clock: systemClock, log: silentObserver.log, ...sizes });
  const note = (audit: AuditLog, what: string): void =>
    audit.record({ action: "api.write", by: "uid 0", detail: { what } });
  const files = (): readonly string[] =>
    readdirSync(folder().at("audit"))
      .sort()
      .map((name) => join(folder().at("audit"), name));

  async function written(count: number): Promise<string> {
    await using audit = logOf();
    for (let index = 0; index < count; index += 1) note(audit, String(index));
    await audit.flush();
    return files()[0] ?? "";
  }

  it("keeps what was recorded, newest first, in a chain over a restart, for its owner's eyes only", async () => {
    await written(3);
    await using audit = logOf();
    note(audit, "after the restart");
    const entries: AuditEntry[] = [];
    for await (const entry of audit.entries()) entries.push(entry);
    expect(entries.map(({ seq }) => seq)).to.deep.equal([4, 3, 2, 1]);
    expect(entries[0]?.detail).to.deep.equal({ what: "after the restart" });
    expect(entries[0]?.prev).to.equal(entries[1]?.hash);
    const told = await audit.verify(NEVER);
    expect(told).to.deep.include({ entries: 4, problems: [] });
    expect(told.last?.hash).to.equal(entries[0]?.hash);
    expect(statSync(files()[0] ?? "").mode & 0o777).to.equal(0o600);
  });

  it("is empty and whole before anything was recorded, and makes nothing then", async () => {
    await using audit = logOf();
    expect(await audit.verify(NEVER)).to.deep.equal({ entries: 0, problems: [] });
    expect(readdirSync(folder().path)).to.deep.equal([]);
  });

  const FORGERIES: readonly (readonly [string, (lines: string[]) => string[], RegExp])[] = [
    ["changed", (lines) => lines.map((line) => line.replace('"what":"2"', '"what":"9"')), /changed after/],
    ["taken out", (lines) => lines.filter((_line, index) => index !== 2), /entries are missing: 2 is followed by 4/],
    [
      "put in",
      (lines) => [...lines.slice(0, 2), lines[1] ?? "", ...lines.slice(2)],
      /entries are missing: 2 is followed by 2/,
    ],
    ["exchanged with another", (lines) => [lines[1] ?? "", lines[0] ?? "", ...lines.slice(2)], /entries are missing/],
    ["no entry", (lines) => ["rubbish", ...lines], /no entry/],
  ];
  for (const [what, forge, fault] of FORGERIES) {
    it(`shows a line that was ${what}`, async () => {
      const file = await written(5);
      const lines = readFileSync(file, "utf8").trimEnd().split("\n");
      writeFileSync(file, `${forge(lines).join("\n")}\n`);
      await using audit = logOf();
      expect((await audit.verify(NEVER)).problems.join("\n")).to.match(fault);
    });
  }

  it("goes on behind the last whole line when a crash cut one off", async () => {
    const file = await written(2);
    appendFileSync(file, '{"seq":3,"at":"2026-');
    await using audit = logOf();
    note(audit, "after the crash");
    expect(await audit.verify(NEVER)).to.deep.include({ entries: 3, problems: [] });
  });

  it("begins new files at its size, drops the oldest, and stays a chain", async () => {
    await using audit = logOf({ fileBytesMax: 2000, filesMax: 3 });
    for (let index = 0; index < 60; index += 1) {
      note(audit, String(index));
      await audit.flush();
    }
    expect(files()).to.have.length(3);
    const told = await audit.verify(NEVER);
    expect(told.problems).to.deep.equal([]);
    expect(told.last?.seq).to.equal(60);
    expect(told.first?.seq).to.be.greaterThan(30);
  });

  it("cuts what is too long, and never throws where it cannot write", async () => {
    await using audit = logOf();
    note(audit, "x".repeat(100_000));
    await audit.flush();
    expect(statSync(files()[0] ?? "").size).to.be.lessThan(5000);
    writeFileSync(folder().at("no-folder"), "");
    const failed: string[] = [];
    const log = { ...silentObserver.log, error: (event: string) => void failed.push(event) };
    await using broken = new AuditLog({ folder: folder().at("no-folder/audit"), clock: systemClock, log });
    note(broken, "lost");
    await broken.flush();
    expect(failed).to.deep.equal(["audit.failed"]);
  });
});
