/** How sources come up and go: each by itself, none kept waiting by another, and the end never by any. */
import { readFile, readdir, readlink, rename, rm } from "node:fs/promises";
import { expect } from "chai";
import { type Clock, systemClock } from "../../src/base/clock.js";
import { deferred } from "../../src/base/concurrency.js";
import { nativeCalls } from "../../src/base/native.js";
import { pathFromText } from "../../src/base/paths.js";
import { launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { skip } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Failed starts are tried again after 15 s; here sooner. */
const IMPATIENT: Clock = {
  nowMs: () => systemClock.nowMs(),
  monotonicMs: () => systemClock.monotonicMs(),
  sleep: async (ms, signal) => await systemClock.sleep(ms, signal),
  after: (ms, callback) => systemClock.after(ms === 15_000 ? 2_000 : ms, callback),
  every: (ms, callback) => systemClock.every(ms, callback),
};

describe("a daemon with several sources", () => {
  const folder = useTempFolder("operation");

  async function configured(...names: string[]): Promise<Readonly<Record<string, unknown>>> {
    for (const name of names) await folder().write(`${name}/file`, name);
    return { sources: names.map((name) => ({ name, paths: [folder().at(name)] })) };
  }

  it("watches what it knows and keeps time while a first backup waits", async () => {
    {
      await using before = await launchIn(folder(), await configured("old"));
      await before.operation.start();
      await before.operation.started();
    }
    await using daemon = await launchIn(folder(), await configured("old", "new"));
    const gate = deferred<undefined>();
    daemon.parts.jobs.start("slow", "write", () => gate.promise);
    await daemon.operation.start();
    await until("the known source is watched", 5_000, () =>
      daemon.parts.monitor.status().some(({ name, state }) => name === "old" && state === "protected"),
    );
    expect(daemon.parts.monitor.status()).to.have.length(1);
    expect(daemon.operation.startReason("new")).to.equal("first backup");
    const due = daemon.operation.plan.schedules().filter(({ next_at: next }) => next !== null);
    expect(due).to.not.have.length(0);
    gate.resolve(undefined);
    await daemon.operation.started();
    expect(daemon.parts.monitor.status()).to.have.length(2);
  });

  it("says that its state folder went, while the key is still in memory", async () => {
    await using daemon = await launchIn(folder(), await configured("one"));
    await daemon.operation.start();
    await daemon.operation.started();
    expect((await daemon.services.system.status()).state).to.equal("healthy");
    await rename(folder().at("state"), folder().at("elsewhere"));
    const { state, reasons, next_step: next } = await daemon.services.system.status();
    await rename(folder().at("elsewhere"), folder().at("state"));
    expect([state, next]).to.deep.equal(["failing", "holdfast keys recovery"]);
    expect(reasons.join()).to.contain(folder().at("state"));
  });

  it("names the store that is open, also after another was configured", async () => {
    await using daemon = await launchIn(folder(), await configured("one"));
    await daemon.operation.take(await daemon.configure({ ...(await configured("one")), store: folder().at("other") }));
    expect((await daemon.services.system.status()).store.url).to.equal(folder().at("store"));
  });

  it("leaves none of its files open to the watcher, which is a process of its own", async function () {
    if (nativeCalls() === undefined) skip(this, "koffi is not installed");
    await using daemon = await launchIn(folder(), await configured("one"));
    await daemon.operation.start();
    await daemon.operation.started();
    const children = await readFile(`/proc/self/task/${String(process.pid)}/children`, "utf8");
    const watchers: string[] = [];
    for (const pid of children.trim().split(" ")) {
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (command.includes("watch/child.js")) watchers.push(pid);
    }
    expect(watchers).to.have.length(1);
    const names = await readdir(`/proc/${watchers[0] ?? ""}/fd`);
    const open = await Promise.all(
      names.map(async (name) => await readlink(`/proc/${watchers[0] ?? ""}/fd/${name}`).catch(() => "")),
    );
    expect(open.filter((path) => path.startsWith(folder().path))).to.deep.equal([]);
  });

  it("gives up the first backup of a source that is no longer to be protected", async () => {
    await using daemon = await launchIn(folder(), await configured("wanted"));
    const { jobs, book, monitor } = daemon.parts;
    await daemon.operation.start();
    await daemon.operation.started();
    const gate = deferred<undefined>();
    jobs.start("slow", "write", () => gate.promise);
    await folder().write("unwanted/file", "big");
    const protecting = daemon.operation.protect([pathFromText(folder().at("unwanted"))], "unwanted", {});
    try {
      await until("its first backup waits", 5_000, () => jobs.list().some(({ state }) => state === "queued"));
      await daemon.operation.unprotect(book.get("unwanted"));
      expect(jobs.list().filter(({ state }) => state === "cancelled")).to.have.length(1);
    } finally {
      gate.resolve(undefined);
    }
    await protecting;
    expect(monitor.status().map(({ name }) => name)).to.deep.equal(["wanted"]);
    expect(daemon.operation.startReason("unwanted")).to.equal(undefined);
  });

  it("ends at once when it is told to while first backups wait", async () => {
    const daemon = await launchIn(folder(), await configured("a", "b"));
    daemon.parts.jobs.start("slow", "write", async ({ signal }) => {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    });
    await daemon.operation.start();
    const startedMs = performance.now();
    await daemon[Symbol.asyncDispose]();
    expect(performance.now() - startedMs).to.be.lessThan(3_000);
  });

  it("watches the others when one cannot be, and tries that one again", async () => {
    await using daemon = await launchIn(folder(), await configured("bad", "good"), IMPATIENT);
    const { monitor, book, settings } = daemon.parts;
    const bad = book.get("bad");
    // Somebody else's watch of that name stands in the way.
    await monitor.addSource(bad.files, bad.monitorSettings(settings.current.mass), new AbortController().signal);
    await daemon.operation.start();
    await daemon.operation.started();
    expect(daemon.operation.startReason("bad")).to.contain("SOURCE_EXISTS");
    expect(daemon.operation.startReason("good")).to.equal(undefined);
    expect(daemon.operation.plan.schedules().some(({ next_at: next }) => next !== null)).to.equal(true);
    await monitor.removeSource("bad");
    await until("it is tried again", 5_000, () => daemon.operation.startReason("bad") === undefined);
    expect(monitor.status().map(({ name }) => name)).to.have.members(["bad", "good"]);
  });

  it("backs the others up when one is away, and says which one", async () => {
    await using daemon = await launchIn(folder(), await configured("here", "away"));
    await daemon.operation.start();
    await daemon.operation.started();
    await rm(folder().at("away"), { recursive: true });
    const failed: string[] = [];
    daemon.parts.bus.on("backup.failed", ({ source }) => failed.push(...source));
    const context = { signal: new AbortController().signal, progress: () => undefined };
    const request = { type: "incremental", sources: [], tags: [], compression: true } as const;
    const report = await daemon.operation.plan.backUp(request, context);
    expect(report.sources.map(({ source }) => source)).to.deep.equal(["here"]);
    expect(report.left_out.map(({ source, code }) => [source, code])).to.deep.equal([["away", "SOURCE_ROOT_GONE"]]);
    expect(failed).to.deep.equal(["away"]);
    const left = [];
    for await (const { path } of daemon.parts.repository.currentEntries("away")) left.push(path);
    expect(left, "nothing is noted as removed").to.include(folder().bytes("away", "file"));
  });
});
