/** A disk below the root of a source that is away, or hides files: backups keep the last state and say so. */
import { rm } from "node:fs/promises";
import { expect } from "chai";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { LoopDisk } from "../support/loop-disk.js";
import { requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a backup of a source with disks below its root", () => {
  const folder = useTempFolder("hidden");

  beforeEach(function () {
    requireRoot(this);
  });

  async function launched(reachesIn: boolean): Promise<DaemonInProcess> {
    const source = { name: "data", paths: [folder().at("data")], one_file_system: !reachesIn };
    return await launchIn(folder(), { sources: [source] });
  }

  /** Makes a full backup; gives how many paths it could not read, and whether it holds the inner file. */
  async function backup(daemon: DaemonInProcess): Promise<{ readonly unreadable: number; readonly hasInner: boolean }> {
    const signal = new AbortController().signal;
    const { manifest } = await daemon.parts.backupWork.run(
      { type: "full", sources: ["data"], tags: [], compression: true },
      signal,
      () => undefined,
    );
    const [source] = manifest?.sources ?? [];
    let hasInner = false;
    const entries = daemon.parts.repository.backupEntries(manifest?.backup_id ?? "", {}, signal);
    for await (const { path } of entries) if (path.endsWith("/data/inner/file")) hasInner = true;
    return { unreadable: source?.files_unreadable ?? -1, hasInner };
  }

  it("keeps what was on one that is not mounted now, as one path that could not be read, until its folder goes", async () => {
    await folder().write("data/outer", "outer");
    const disk = LoopDisk.make(folder().at("image"), folder().at("data/inner"));
    await using daemon = await launched(true);
    await folder().write("data/inner/file", "inner");
    expect(await backup(daemon)).to.deep.equal({ unreadable: 0, hasInner: true });
    await disk[Symbol.asyncDispose]();
    expect(await backup(daemon)).to.deep.equal({ unreadable: 1, hasInner: true });
    const inner = daemon.parts.repository.current(folder().bytes("data/inner/file"));
    expect(inner?.node.sha256).to.not.equal(undefined);
    await rm(folder().at("data/inner"), { recursive: true });
    expect(await backup(daemon)).to.deep.equal({ unreadable: 0, hasInner: false });
  });

  it("keeps what one hides that was mounted over it, of a source that does not reach into it", async () => {
    await folder().write("data/inner/file", "below");
    await using daemon = await launched(false);
    expect(await backup(daemon)).to.deep.equal({ unreadable: 0, hasInner: true });
    await using disk = LoopDisk.make(folder().at("image"), folder().at("data/inner"));
    expect(await backup(daemon)).to.deep.equal({ unreadable: 1, hasInner: true });
    disk.unmount();
    expect(await backup(daemon)).to.deep.equal({ unreadable: 0, hasInner: true });
  });
});
