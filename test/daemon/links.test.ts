/** Protected places behind symbolic links: named by any of their names, restored and healed where they really are. */
import { mkdir, readFile, rename, rm, symlink } from "node:fs/promises";
import { expect } from "chai";
import type { JobDocument } from "../../src/api/services.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a protected folder behind a link", () => {
  const folder = useTempFolder("links");
  const REQUEST = { files: [], sources: [], in_place: false, overwrite: "always", delete: false } as const;
  const HOW = { dry_run: false, verify: true, sparse: false } as const;

  /** `link` leads to `real`, and `link/app` is protected. */
  async function protecting(): Promise<DaemonInProcess> {
    await folder().write("real/app/file.txt", "good");
    await symlink("real", folder().at("link"));
    const daemon = await launchIn(folder(), { sources: [] });
    await daemon.operation.start();
    await daemon.services.watch.protect({ paths: [folder().bytes("link", "app")] });
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
    return daemon;
  }

  async function ended(daemon: DaemonInProcess, job: JobDocument): Promise<JobDocument> {
    return await daemon.services.system.job(job.id, 20_000, new AbortController().signal);
  }

  it("is found by both of its names, and by neither twice", async () => {
    await using daemon = await protecting();
    const { watch, backups, recovery } = daemon.services;
    const [byLink, byReal] = [folder().bytes("link", "app", "file.txt"), folder().bytes("real", "app", "file.txt")];
    for (const path of [byLink, byReal]) {
      expect((await watch.explain(path)).source).to.equal("app");
      expect(await backups.versions(path)).to.have.length(1);
      const scan = await ended(daemon, await recovery.scan(path));
      expect(scan.result).to.include({ files_checked: 1, missing: 0 });
    }
    const found: string[] = [];
    for await (const entry of backups.find(folder().at("link", "**", "*.txt"))) found.push(entry.path);
    expect(found).to.deep.equal([byReal]);
    await watch.protect({ paths: [folder().bytes("real", "app")] });
    expect((await watch.sources()).map(({ name }) => name)).to.deep.equal(["app"]);
    expect((await watch.unprotect(folder().at("real", "app"))).name).to.equal("app");
  });

  it("is paused under either name: a pause that pauses nothing would be found out too late", async () => {
    await using daemon = await protecting();
    const paused = await daemon.services.watch.pause(folder().bytes("link", "app"), 60_000, "work");
    expect(paused.path).to.equal(folder().at("real", "app"));
    await daemon.services.watch.resume(folder().bytes("link", "app"));
    expect(daemon.operation.plan.pauses()).to.deep.equal([]);
  });

  it("is healed and restored when a folder above it became a link while it was watched", async () => {
    await using daemon = await protecting();
    await mkdir(folder().at("disk"));
    await rename(folder().at("real"), folder().at("disk", "real"));
    await symlink("disk/real", folder().at("real"));
    const place = folder().at("real", "app", "file.txt");
    await rm(place);
    const request = { ...REQUEST, ...HOW, backup_id: "latest", files: [place] };
    const restored = await ended(daemon, await daemon.services.backups.restore(request));
    expect(restored.result, JSON.stringify(restored)).to.deep.include({ restored: 1, failed: [] });
    expect(await readFile(folder().at("disk", "real", "app", "file.txt"), "utf8")).to.equal("good");
    await rm(place);
    const recovery = { file: folder().bytes("real", "app", "file.txt"), strategy: "auto", explain: false };
    await ended(daemon, await daemon.services.recovery.recover(recovery));
    await until("it is back", 5_000, async () => (await readFile(place, "utf8").catch(() => "")) === "good");
  });

  it("never follows a link below what is protected", async () => {
    await using daemon = await protecting();
    await folder().write("real/app/inner/deep.txt", "deep");
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
    await daemon.services.watch.pause(undefined, 60_000, "the test");
    await folder().folder("outside");
    await rm(folder().at("real", "app", "inner"), { recursive: true });
    await symlink(folder().at("outside"), folder().at("real", "app", "inner"));
    const files = [folder().at("real", "app", "inner", "deep.txt")];
    const request = { ...REQUEST, ...HOW, backup_id: "latest", files };
    const job = await ended(daemon, await daemon.services.backups.restore(request));
    expect(JSON.stringify(job)).to.contain("TARGET_UNSAFE");
    expect(await rejection(readFile(folder().at("outside", "deep.txt")))).to.include({ code: "ENOENT" });
  });
});
