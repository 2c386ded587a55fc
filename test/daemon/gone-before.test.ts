/** What is gone when a source comes under protection again: its owner's will, or a disk that is not there. */
import { mkdir, rm } from "node:fs/promises";
import { expect } from "chai";
import type { IncidentDocument } from "../../src/api/services.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { LoopDisk } from "../support/loop-disk.js";
import { until } from "../support/program.js";
import { requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("what is gone before a source is protected again", () => {
  const folder = useTempFolder("gone");

  async function started(): Promise<DaemonInProcess> {
    const daemon = await launchIn(folder(), {});
    await daemon.operation.start();
    await daemon.operation.started();
    return daemon;
  }

  /** Protects the notes, so that they are stored, and ends it again. */
  async function storedOnce(daemon: DaemonInProcess, names: readonly string[]): Promise<void> {
    for (const name of names) await folder().write(`notes/${name}`, name);
    await protect(daemon);
    await daemon.operation.unprotect(daemon.parts.book.get("notes"));
  }

  async function protect(daemon: DaemonInProcess): Promise<void> {
    await daemon.services.watch.protect({ paths: [folder().bytes("notes")], name: "notes" });
  }

  function isStored(daemon: DaemonInProcess, name: string): boolean {
    return daemon.parts.repository.current(folder().bytes("notes", name)) !== undefined;
  }

  async function asked(daemon: DaemonInProcess): Promise<IncidentDocument> {
    let incident: IncidentDocument | undefined;
    await until("it is asked", 10_000, async () => {
      [incident] = await daemon.services.recovery.incidents(true, 10);
      return incident?.state === "waiting";
    });
    if (incident === undefined) throw new Error("no incident");
    return incident;
  }

  it("is meant when it is little and the rest is there", async () => {
    await using daemon = await started();
    const names = Array.from({ length: 12 }, (_, index) => `file${String(index)}`);
    await storedOnce(daemon, names);
    await rm(folder().at("notes", "file3"));
    await protect(daemon);
    expect(isStored(daemon, "file3")).to.equal(false);
    expect(isStored(daemon, "file4")).to.equal(true);
    expect(await daemon.parts.healer.incidents({ onlyOpen: false, limit: 10 })).to.deep.equal([]);
  });

  it("is asked about as one loss when nothing at all is left, and stays stored", async () => {
    await using daemon = await started();
    await storedOnce(daemon, ["one", "two"]);
    for (const name of ["one", "two"]) await rm(folder().at("notes", name));
    await protect(daemon);
    const { paths } = await asked(daemon);
    expect(paths.map(({ path }) => path)).to.have.members([folder().at("notes", "one"), folder().at("notes", "two")]);
    for (const name of ["one", "two"]) expect(isStored(daemon, name), name).to.equal(true);
  });

  it("is asked about when it is much", async () => {
    await using daemon = await started();
    const names = Array.from({ length: 30 }, (_, index) => `file${String(index)}`);
    await storedOnce(daemon, names);
    for (const name of names.slice(0, 20)) await rm(folder().at("notes", name));
    await protect(daemon);
    expect((await asked(daemon)).paths).to.have.length(20);
    for (const name of names) expect(isStored(daemon, name), name).to.equal(true);
  });

  it("is nothing when its disk is not mounted: that is waited for", async function () {
    requireRoot(this);
    await using disk = LoopDisk.make(folder().at("image"), folder().at("notes"));
    await using daemon = await started();
    await storedOnce(daemon, ["one", "two"]);
    disk.unmount();
    await protect(daemon);
    expect((await daemon.services.watch.sources())[0]).to.include({ name: "notes", state: "root_gone" });
    expect(isStored(daemon, "one")).to.equal(true);
    disk.mount();
    await until("it is protected", 15_000, async () => {
      return (await daemon.services.watch.sources())[0]?.state === "protected";
    });
    expect(await daemon.parts.healer.incidents({ onlyOpen: false, limit: 10 })).to.deep.equal([]);
  });

  it("is asked about when other storage with other files stands there", async function () {
    requireRoot(this);
    const disk = LoopDisk.make(folder().at("image"), folder().at("notes"));
    await using daemon = await started();
    await storedOnce(daemon, ["one", "two"]);
    await disk[Symbol.asyncDispose]();
    await mkdir(folder().at("notes"), { recursive: true });
    await folder().write("notes/new", "new");
    await protect(daemon);
    expect((await asked(daemon)).paths).to.have.length(2);
    expect((await daemon.services.watch.sources())[0]).to.include({ name: "notes", state: "protected" });
    for (const name of ["one", "new"]) expect(isStored(daemon, name), name).to.equal(true);
  });
});
