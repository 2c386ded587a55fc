/**
 * Backups of what a daemon watches: nothing is walked when every change is known, whatever was changed a moment ago is
 * in them, and any doubt makes them walk and say why.
 */
import { existsSync, utimesSync } from "node:fs";
import { appendFile, chmod, link, mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { expect } from "chai";
import type { CreateBackupRequest } from "../../src/api/services.js";
import { pathFromText, pathText } from "../../src/base/paths.js";
import type { FileNode, SourceManifest } from "../../src/engine/types.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";
import { stopProcess } from "../support/stopped.js";

const SIGNAL = new AbortController().signal;
const FILES = 40;
const HEALED_MAX_MS = 20_000;

async function backUp(
  daemon: DaemonInProcess,
  wanted: Partial<CreateBackupRequest> = {},
): Promise<SourceManifest & { readonly id: string }> {
  const request = { type: "incremental", sources: [], tags: [], compression: true, ...wanted } as const;
  const report = await daemon.operation.plan.backUpNow(request);
  const source = report?.sources[0];
  if (report === undefined || source === undefined) throw new Error("no backup was made");
  return { ...source, id: report.backup_id };
}

/** What a backup holds: each path below the folder with its node. */
async function held(daemon: DaemonInProcess, folder: TempFolder, id: string): Promise<Map<string, FileNode>> {
  const nodes = new Map<string, FileNode>();
  for await (const { path, node } of daemon.parts.repository.backupEntries(id, {}, SIGNAL))
    nodes.set(pathText(path).slice(folder.path.length + 1), node);
  return nodes;
}

/** Every field that a restore gives back. */
function comparable(nodes: Map<string, FileNode>): readonly string[] {
  return [...nodes].map(([path, { kind, stat, mode, sha256, linkTarget }]) =>
    [path, kind, stat.sizeBytes, stat.mtimeNs, mode, sha256, linkTarget].join(" "),
  );
}

describe("a backup of a watched source", () => {
  const folder = useTempFolder("no-walk");

  async function watched(): Promise<DaemonInProcess> {
    for (let index = 0; index < FILES; index += 1)
      await folder().write(`data/f${String(index % 4)}/${String(index)}`, `content ${String(index)}`);
    const daemon = await launchIn(folder(), {});
    await daemon.operation.start();
    await daemon.services.watch.protect({ paths: [folder().bytes("data")], name: "data" });
    return daemon;
  }

  /** The second walk is after the watch began: from then on events tell the rest. */
  async function known(): Promise<DaemonInProcess> {
    const daemon = await watched();
    const first = await backUp(daemon);
    expect(first).to.include({ walked: true, walked_because: "nothing of it was walked since it is watched" });
    return daemon;
  }

  /** A backup that walks must find nothing that the one before did not have. */
  async function expectSameAsWalked(daemon: DaemonInProcess, id: string): Promise<void> {
    const walked = await backUp(daemon, { rescan: true });
    expect(walked).to.include({ walked: true, walked_because: "it was asked for" });
    expect(comparable(await held(daemon, folder(), id))).to.deep.equal(
      comparable(await held(daemon, folder(), walked.id)),
    );
  }

  it("walks nothing when nothing changed, and holds the same", async () => {
    await using daemon = await known();
    const backup = await backUp(daemon);
    expect(backup).to.include({ walked: false, files_total: FILES, files_changed: 0 });
    expect(backup).not.to.have.property("walked_because");
    await expectSameAsWalked(daemon, backup.id);
  });

  it("holds what was written, made, moved and touched right before it, with the times of the folders", async () => {
    await using daemon = await known();
    await writeFile(folder().at("data/f0/0"), "new content");
    await folder().write("data/f1/new", "a new file");
    await rename(folder().at("data/f2/2"), folder().at("data/f3/moved"));
    await chmod(folder().at("data/f3/3"), 0o600);
    await utimes(folder().at("data/f2"), 1e9, 1e9);
    const backup = await backUp(daemon);
    const nodes = await held(daemon, folder(), backup.id);
    expect(nodes.get("data/f1/new")?.stat.sizeBytes).to.equal(10);
    expect(nodes.has("data/f3/moved")).to.equal(true);
    expect(nodes.get("data/f2")?.stat.mtimeNs).to.equal(1_000_000_000_000_000_000n);
    await expectSameAsWalked(daemon, backup.id);
  });

  it("does not wait for a file that never rests", async () => {
    await using daemon = await known();
    const timer = setInterval(() => void appendFile(folder().at("data/f0/0"), "line\n"), 20);
    try {
      await appendFile(folder().at("data/f0/4"), "one more line");
      const backup = await backUp(daemon);
      expect(backup.walked).to.equal(false);
      const nodes = await held(daemon, folder(), backup.id);
      expect(nodes.get("data/f0/4")?.stat.sizeBytes).to.equal("content 4".length + "one more line".length);
    } finally {
      clearInterval(timer);
    }
  });

  it("holds a file of a folder that was made right before it", async () => {
    await using daemon = await known();
    await mkdir(folder().at("data/deep/er"), { recursive: true });
    await writeFile(folder().at("data/deep/er/file"), "text");
    const backup = await backUp(daemon);
    expect((await held(daemon, folder(), backup.id)).has("data/deep/er/file")).to.equal(true);
    await expectSameAsWalked(daemon, backup.id);
  });

  it("looks at files with other names, which may change where nobody watches", async () => {
    await writeFile(folder().at("elsewhere"), "one name");
    await mkdir(folder().at("data"));
    await link(folder().at("elsewhere"), folder().at("data/linked"));
    await using daemon = await known();
    await appendFile(folder().at("elsewhere"), ", more text");
    const backup = await backUp(daemon);
    expect(backup.walked).to.equal(false);
    expect((await held(daemon, folder(), backup.id)).get("data/linked")?.stat.sizeBytes).to.equal(19);
  });

  it("walks after a restart, once", async () => {
    await (await known())[Symbol.asyncDispose]();
    await using daemon = await launchIn(folder(), {});
    await daemon.operation.start();
    await daemon.operation.started();
    const first = await backUp(daemon);
    expect(first).to.include({ walked: true, walked_because: "nothing of it was walked since it is watched" });
    expect(await backUp(daemon)).to.include({ walked: false });
  });

  it("walks a full backup, since that reads every file", async () => {
    await using daemon = await known();
    const full = await backUp(daemon, { type: "full" });
    expect(full).to.include({ walked: true, walked_because: "a full backup reads everything" });
    expect(await backUp(daemon)).to.include({ walked: false });
  });

  it("walks while the watcher is gone", async () => {
    await using daemon = await known();
    const pid = daemon.parts.monitor.watcherPid;
    if (pid === undefined) throw new Error("no watcher");
    process.kill(pid, "SIGKILL");
    await writeFile(folder().at("data/f0/0"), "unheard");
    const backup = await backUp(daemon);
    expect(backup.walked).to.equal(true);
    const node = (await held(daemon, folder(), backup.id)).get("data/f0/0");
    expect(node?.stat.sizeBytes).to.equal("unheard".length);
  });

  it("walks after a flood of events, of which the kernel may have dropped some without a word", async () => {
    await using daemon = await known();
    const pid = daemon.parts.monitor.watcherPid;
    if (pid === undefined) throw new Error("no watcher");
    const waiting = Number(await readFile("/proc/sys/fs/inotify/max_queued_events", "utf8"));
    await stopProcess(pid); // as if other programs had the processors for a moment
    for (let index = 0; index <= waiting; index += 1) {
      utimesSync(folder().at(`data/f${String(index % 2)}/${String(index % 2)}`), index, index);
    }
    await writeFile(folder().at("data/f2/2"), "told to nobody");
    process.kill(pid, "SIGCONT");
    const backup = await backUp(daemon);
    expect(backup.walked).to.equal(true);
    const node = (await held(daemon, folder(), backup.id)).get("data/f2/2");
    expect(node?.stat.sizeBytes).to.equal("told to nobody".length);
    // The fence of that backup may itself be among what was dropped; then the next one learns that there was a flood.
    if (backup.walked_because === "the watcher was late")
      expect(await backUp(daemon)).to.include({ walked_because: "so many events came at once that some may be lost" });
    const later = await backUp(daemon);
    expect(later, later.walked_because).to.include({ walked: false });
  });

  it("walks while the source is to be looked through, as after lost events", async () => {
    await using daemon = await known();
    daemon.parts.monitor.requestReconcile("data", "events were lost");
    const backup = await backUp(daemon);
    expect(backup).to.include({ walked: true, walked_because: "more changes than can be remembered" });
  });

  it("walks while work on it is announced", async () => {
    await using daemon = await known();
    await daemon.parts.monitor.pause(pathFromText(folder().at("data")), 60_000, "work");
    const backup = await backUp(daemon);
    expect(backup).to.include({ walked: true, walked_because: "work" });
  });

  it("does not keep what was removed a moment ago, unless it came back", async () => {
    await using daemon = await known();
    await rm(folder().at("data/f0/0"));
    const backup = await backUp(daemon);
    const nodes = await held(daemon, folder(), backup.id);
    if (!backup.walked) expect(nodes.has("data/f0/0")).to.equal(true); // healed before the backup looked
    await until("it is healed", HEALED_MAX_MS, () => existsSync(folder().at("data/f0/0")));
    await expectSameAsWalked(daemon, (await backUp(daemon)).id);
  });
});
