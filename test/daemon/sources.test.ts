/** Sources that are changed at run time: taken at once, kept over a restart, nothing of theirs taken for a loss. */
import { readFile, rm } from "node:fs/promises";
import { expect } from "chai";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Nothing here has to be fast, it has to come. */
const COMES_MS = 20_000;

describe("changing a source", () => {
  const folder = useTempFolder("sources");

  async function protecting(): Promise<DaemonInProcess> {
    await folder().write("fixed/file", "configured");
    // A third file stays all the time: a source that is all gone when it is looked at anew is a question for its owner.
    for (const name of ["keep.txt", "drop.log", "stay.txt"]) await folder().write(`notes/${name}`, name);
    const daemon = await launchIn(folder(), { sources: [{ name: "fixed", paths: [folder().at("fixed")] }] });
    await daemon.operation.start();
    await daemon.operation.started();
    await daemon.services.watch.protect({ paths: [folder().bytes("notes")], name: "notes", priority: "low" });
    return daemon;
  }

  it("takes what is given, leaves the rest, goes back to the default at null, and survives a restart", async () => {
    {
      await using daemon = await protecting();
      const { watch } = daemon.services;
      const changed = await watch.change("notes", { on_delete: "hold", rpo_seconds: 60, exclude: ["*.log"] });
      expect(changed).to.include({ on_delete: "hold", rpo_seconds: 60, priority: "low", state: "protected" });
      expect(changed.exclude).to.deep.equal(["*.log"]);
      expect(changed.added_at_run_time).to.equal(true);
      expect(await watch.change("notes", { priority: null })).to.include({ priority: "medium", rpo_seconds: 60 });
      const metrics = await daemon.services.system.metrics();
      expect(metrics).to.contain('holdfast_source_rpo_seconds{source="notes"} 60');
    }
    await using daemon = await launchIn(folder(), { sources: [] });
    const [kept] = await daemon.services.watch.sources();
    expect(kept).to.include({ name: "notes", on_delete: "hold", rpo_seconds: 60, priority: "medium" });
    expect(kept?.exclude).to.deep.equal(["*.log"]);
  });

  it("heals no more what it leaves out from now on, and still heals the rest", async () => {
    await using daemon = await protecting();
    await daemon.services.watch.change("notes", { exclude: ["*.log"] });
    await rm(folder().at("notes", "drop.log"));
    await rm(folder().at("notes", "keep.txt"));
    await until(
      "what belongs to it is back",
      COMES_MS,
      async () => (await textOf(folder().at("notes", "keep.txt"))) === "keep.txt",
    );
    const incidents = await daemon.parts.healer.incidents({ onlyOpen: false, limit: 10 });
    expect(incidents.flatMap(({ paths }) => paths)).to.deep.equal([folder().bytes("notes", "keep.txt")]);
    expect(await textOf(folder().at("notes", "drop.log"))).to.equal(undefined);
  });

  it("moves to other paths: what is there is stored at once, and what it left is let go", async () => {
    await using daemon = await protecting();
    await folder().write("elsewhere/new.txt", "new");
    const changed = await daemon.services.watch.change("notes", { paths: [folder().bytes("elsewhere")] });
    expect(changed.paths).to.deep.equal([folder().at("elsewhere")]);
    await rm(folder().at("notes", "keep.txt"));
    await until("it is durable", COMES_MS, () => {
      return Promise.resolve(daemon.parts.repository.current(folder().bytes("elsewhere", "new.txt")) !== undefined);
    });
    await rm(folder().at("elsewhere", "new.txt"));
    await until("it is back", COMES_MS, async () => (await textOf(folder().at("elsewhere", "new.txt"))) === "new");
    expect(await textOf(folder().at("notes", "keep.txt"))).to.equal(undefined);
  });

  it("leaves no alert behind when it is protected no more", async () => {
    await using daemon = await protecting();
    const { watch, alerts } = daemon.services;
    await watch.protect({ paths: [folder().bytes("mistyped")] });
    const ofIt = async (): Promise<number> => {
      return (await alerts.alerts(false)).filter(({ source }) => source === "mistyped").length;
    };
    await until("its absence is told", COMES_MS, async () => (await ofIt()) > 0);
    await watch.unprotect("mistyped");
    await until("nothing is told of it", COMES_MS, async () => (await ofIt()) === 0);
  });

  it("refuses sources of the configuration, names that nobody has, and an empty list of paths", async () => {
    await using daemon = await protecting();
    const { watch } = daemon.services;
    expect(await rejection(watch.change("fixed", { priority: "high" }))).to.include({ code: "USAGE" });
    expect(await rejection(watch.change("none", { priority: "high" }))).to.include({ code: "SOURCE_NOT_FOUND" });
    expect(await rejection(watch.change("notes", { paths: [] }))).to.include({ code: "USAGE" });
    expect((await watch.sources()).map(({ name }) => name)).to.deep.equal(["fixed", "notes"]);
  });
});

async function textOf(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch(() => undefined);
}
