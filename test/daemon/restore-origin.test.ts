/** From which backups a restore takes the sources: nothing that is protected is left out without a word. */
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import os, { hostname } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import type { RestoreReport, RestoreRequest } from "../../src/api/services.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

const WAIT_MS = 20_000;

describe("a restore", () => {
  const folder = useTempFolder("restore-origin");

  /** Two sources, stored by a backup each: `app` by the older, `web` by the newer. */
  async function twoSources(olderHost = hostname()): Promise<DaemonInProcess> {
    const names = ["app", "web"];
    for (const name of names) await folder().write(`${name}/file`, name);
    const daemon = await launchIn(folder(), { sources: names.map((name) => ({ name, paths: [folder().at(name)] })) });
    await onHost(olderHost, async () => await backUp(daemon, "app"));
    await backUp(daemon, "web");
    return daemon;
  }

  /** Does something while the machine has this name. */
  async function onHost(name: string, work: () => Promise<unknown>): Promise<void> {
    const real = os.hostname;
    os.hostname = () => name;
    syncBuiltinESMExports();
    try {
      await work();
    } finally {
      os.hostname = real;
      syncBuiltinESMExports();
    }
  }

  async function backUp(daemon: DaemonInProcess, source: string): Promise<string> {
    const report = await daemon.operation.plan.backUpNow({
      type: "full",
      sources: [source],
      tags: [],
      compression: true,
    });
    return report?.backup_id ?? "";
  }

  async function restored(daemon: DaemonInProcess, wanted: Partial<RestoreRequest> = {}): Promise<RestoreReport> {
    await rm(folder().at("back"), { recursive: true, force: true });
    const { id } = await daemon.services.backups.restore({
      ...{ files: [], sources: [], target: folder().bytes("back"), in_place: false, overwrite: "if-changed" },
      ...{ delete: false, dry_run: false, verify: true, sparse: false, ...wanted },
    });
    const { result, error } = await daemon.services.system.job(id, WAIT_MS, new AbortController().signal);
    if (error !== null) throw new Error(`${error.code}: ${error.message}`);
    return result as RestoreReport;
  }

  const cameBack = (): readonly string[] =>
    ["app", "web"].filter((name) => existsSync(join(folder().at("back"), folder().at(name), "file")));

  it("of no backup in particular brings each source back from the newest that holds it", async () => {
    await using daemon = await twoSources();
    const newer = await backUp(daemon, "app");
    const report = await restored(daemon);
    expect(cameBack()).to.have.members(["app", "web"]);
    expect(report.from.map(({ source }) => source)).to.deep.equal(["app", "web"]);
    expect(report.from[0]?.backup_id).to.equal(newer);
    expect(report.warnings).to.deep.equal([]);
  });

  it("of a backup that leaves out something protected says what, and where that is", async () => {
    await using daemon = await twoSources();
    const [older] = await daemon.parts.repository.listBackups();
    const report = await restored(daemon, { backup_id: "latest" });
    expect(cameBack()).to.deep.equal(["web"]);
    expect(report.warnings).to.have.length(1);
    expect(report.warnings[0]).to.match(/does not hold the source app; the newest that does is /);
    expect(report.warnings[0]).to.contain(older?.backup_id);
    const chosen = await restored(daemon, { backup_id: "latest", sources: ["web"] });
    expect(chosen.warnings).to.deep.equal([]);
  });

  it("of one source finds it in an older backup, and says when none holds it", async () => {
    await using daemon = await twoSources();
    await restored(daemon, { sources: ["app"] });
    expect(cameBack()).to.deep.equal(["app"]);
    let message = "";
    await restored(daemon, { sources: ["mail"] }).catch((error: unknown) => (message = String(error)));
    expect(message).to.match(/VERSION_NOT_FOUND.*mail/);
  });

  it("leaves out what is protected no more, but for the newest backup", async () => {
    await using first = await twoSources();
    await first[Symbol.asyncDispose]();
    await using daemon = await launchIn(folder(), { sources: [{ name: "web", paths: [folder().at("web")] }] });
    const report = await restored(daemon);
    expect(cameBack()).to.deep.equal(["web"]);
    expect(report.warnings).to.have.length(1);
    expect(report.warnings[0]).to.match(/^the source app is protected no more and was left out/);
    for (const chosen of [{ sources: ["app"] }, { files: [folder().at("app/file")] }]) {
      await restored(daemon, chosen);
      expect(cameBack()).to.deep.equal(["app"]);
    }
  });

  for (const [older, newer] of [
    ["a", "z"],
    ["z", "a"],
  ] as const)
    it(`gives a path that ${older} and ${newer} hold its newest state, also when ${older} is what ${newer} was named before`, async () => {
      const paths = [folder().at("www")];
      const file = await folder().write("www/file", "old");
      await using first = await launchIn(folder(), { sources: [older, newer].map((name) => ({ name, paths })) });
      await backUp(first, older);
      await folder().write("www/file", "worked on");
      await backUp(first, newer);
      const content = async (): Promise<string> => await readFile(join(folder().at("back"), file), "utf8");
      const report = await restored(first);
      expect([await content(), report.failed]).to.deep.equal(["worked on", []]);
      await first[Symbol.asyncDispose]();
      await using daemon = await launchIn(folder(), { sources: [{ name: newer, paths }] });
      for (const wanted of [{ files: [file] }, { at_ms: Date.now() }]) {
        expect((await restored(daemon, wanted)).failed).to.deep.equal([]);
        expect(await content()).to.equal("worked on");
      }
      await restored(daemon, { sources: [older] });
      expect(await content()).to.equal("old");
    });

  it("says what was left out that was stored under another name of the machine, and brings it when it is named", async () => {
    await using first = await twoSources("before");
    await first[Symbol.asyncDispose]();
    await using daemon = await launchIn(folder(), {});
    const report = await restored(daemon);
    expect(cameBack()).to.deep.equal(["web"]);
    expect(report.warnings).to.have.length(1);
    expect(report.warnings[0]).to.match(/^the source app was stored on before and was left out; .* --sources app /);
    const named = await restored(daemon, { sources: ["app"] });
    expect(cameBack()).to.deep.equal(["app"]);
    expect(named.from).to.deep.equal([{ source: "app", backup_id: named.from[0]?.backup_id }]);
  });

  it("brings everything back where nothing is protected, as on a new machine", async () => {
    await using first = await twoSources();
    await first[Symbol.asyncDispose]();
    await using daemon = await launchIn(folder(), {});
    await restored(daemon);
    expect(cameBack()).to.have.members(["app", "web"]);
  });
});
