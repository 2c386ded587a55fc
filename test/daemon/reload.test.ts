/** Taking another configuration: one at a time, whole or not at all, and never at the price of what is protected. */
import { expect } from "chai";
import { AlertDispatcher } from "../../src/alerts/dispatcher.js";
import { deferred } from "../../src/base/concurrency.js";
import { EventBus } from "../../src/base/events.js";
import { HoldfastError, hasCode } from "../../src/base/errors.js";
import type { AlertsConfiguration, Configuration } from "../../src/config/configuration.js";
import { Reloads } from "../../src/daemon/reload.js";
import { Telling, type TellingPorts, alertRules } from "../../src/daemon/telling.js";
import { FakeClock } from "../support/fake-clock.js";
import { launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { RecordingChannel } from "../support/recording-channel.js";
import { rejection } from "../support/rejection.js";
import { MemoryBucket, RecordingObserver } from "../support/state-store.js";
import { useTempFolder } from "../support/temp-folder.js";

const SUCCESS = "holdfast_config_last_reload_success";

describe("a reload", () => {
  const folder = useTempFolder("reload");

  async function sources(...names: string[]): Promise<{ name: string; paths: string[] }[]> {
    return await Promise.all(names.map(async (name) => ({ name, paths: [await folder().folder(name)] })));
  }

  it("is one at a time: who asks while one runs gets the next, which takes the newest", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    const gates = [deferred<Configuration>(), deferred<Configuration>()];
    let begun = 0;
    const reloads = new Reloads(daemon.parts, daemon.operation, async () => {
      begun += 1;
      return await (gates[begun - 1] ?? deferred<Configuration>()).promise;
    });
    const first = reloads.reload();
    await until("the first has begun", 10_000, () => begun === 1);
    const [second, third] = [reloads.reload(), reloads.reload()];
    gates[0]?.resolve(await daemon.configure({ sources: await sources("a", "b") }));
    await first;
    await until("the second has begun", 10_000, () => begun === 2);
    gates[1]?.resolve(await daemon.configure({ sources: await sources("a", "c") }));
    expect(await third).to.equal(await second);
    expect(begun).to.equal(2);
    expect(daemon.parts.book.all().map(({ name }) => name)).to.have.members(["a", "c"]);
  });

  it("that fails leaves room for the next", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    const good = await daemon.configure({ sources: await sources("b") });
    const answers = [Promise.reject(new HoldfastError("CONFIG_INVALID", "broken")), Promise.resolve(good)];
    const reloads = new Reloads(daemon.parts, daemon.operation, async () => (await answers.shift()) ?? good);
    expect(hasCode(await rejection(reloads.reload()), "CONFIG_INVALID")).to.equal(true);
    expect(await daemon.services.system.metrics()).to.contain(`${SUCCESS} 0`);
    await reloads.reload();
    expect(await daemon.services.system.metrics()).to.contain(`${SUCCESS} 1`);
  });

  it("is refused when the daemon would not start again: the group of the socket is not there", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    await daemon.configure({ access: { socket: { group: "no-such-group" } } });
    const refused = await rejection(daemon.services.system.reload());
    expect(hasCode(refused, "CONFIG_INVALID") && refused.message).to.contain('there is no group "no-such-group"');
  });

  it("says what needs a restart until there was one, and no more once it is as it was at the start", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    const [other, same] = [await daemon.configure({ pins: { hard_links: true } }), await daemon.configure({})];
    const answers = [other, other, same];
    const reloads = new Reloads(daemon.parts, daemon.operation, () => Promise.resolve(answers.shift() ?? same));
    const restarts: boolean[] = [];
    for (let count = 0; count < 3; count += 1) {
      const { plan } = await reloads.reload();
      restarts.push(plan.some((line) => line.includes("! pins takes effect after a restart")));
    }
    expect(restarts).to.deep.equal([true, true, false]);
  });

  it("counts as well done from the start on", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    const metrics = await daemon.services.system.metrics();
    expect(metrics).to.contain(`${SUCCESS} 1`);
    expect(metrics).to.match(new RegExp(`^${SUCCESS}_timestamp_seconds 1\\d{9}(\\.\\d+)?$`, "m"));
  });

  it("whose schedule cannot be kept leaves everything as it was", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    await daemon.operation.start();
    await daemon.operation.started();
    const { settings, book, telling } = daemon.parts;
    const [before, schedules] = [settings.current, daemon.operation.plan.schedules()];
    const next = await daemon.configure({ sources: await sources("b"), alerts: { channels: {} } });
    const impossible: Configuration = {
      ...next,
      alerts: { ...next.alerts, rules: [rule("file_lost")] },
      schedule: [{ name: "odd", type: "full", when: { kind: "cron", line: "no cron line" }, sources: [] }],
    };
    expect(hasCode(await rejection(daemon.operation.take(impossible)), "CONFIG_INVALID")).to.equal(true);
    expect(settings.current).to.equal(before);
    expect(book.all().map(({ name }) => name)).to.deep.equal(["a"]);
    expect(daemon.parts.monitor.status().map(({ state }) => state)).to.deep.equal(["protected"]);
    expect(daemon.operation.plan.schedules()).to.deep.equal(schedules);
    expect(telling.dispatcher?.list(true)).to.deep.equal([]);
  });

  it("also reaches sources that were added at run time, and those whose loss limits changed", async () => {
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    await daemon.operation.start();
    await daemon.operation.started();
    await daemon.operation.protect([folder().bytes("a")], "more", {});
    const next = await daemon.configure({ sources: await sources("a"), defaults: { rpo: "3m" }, mass: { files: 7 } });
    await daemon.operation.take(next);
    await daemon.operation.started();
    const all = daemon.parts.book.all();
    expect(all.map(({ name, addedAtRunTime }) => [name, addedAtRunTime])).to.have.deep.members([
      ["a", false],
      ["more", true],
    ]);
    expect(all.map(({ configuration }) => configuration.rpoMs)).to.deep.equal([180_000, 180_000]);
    expect(daemon.parts.monitor.status().map(({ state }) => state)).to.deep.equal(["protected", "protected"]);
  });

  it("that exchanges a source while a backup of it begins leaves nothing out of the next one, which walks no more", async () => {
    await folder().write("a/one", "one");
    await folder().write("b/two", "two");
    const over = (...names: string[]): object => ({
      sources: [{ name: "data", paths: names.map((name) => folder().at(name)) }],
    });
    await using daemon = await launchIn(folder(), { ...over("a") });
    await daemon.operation.start();
    await daemon.operation.started();
    const { monitor, queue, repository } = daemon.parts;
    const { signal } = new AbortController();
    const awayReason = monitor.awayReason.bind(monitor);
    let isTaken = false;
    monitor.awayReason = async (source) => {
      if (!isTaken) {
        isTaken = true;
        await daemon.operation.take(await daemon.configure({ ...over("a", "b") }));
        await daemon.operation.started();
        await queue.drained(signal);
      }
      return await awayReason(source);
    };
    const request = { type: "incremental", sources: [], tags: [], compression: true } as const;
    await daemon.operation.plan.backUpNow(request);
    const next = await daemon.operation.plan.backUpNow(request);
    expect(next?.sources[0]).to.include({ walked: false, files_total: 2 });
    const held: string[] = [];
    for await (const { path } of repository.backupEntries(next?.backup_id ?? "", {}, signal)) held.push(path);
    expect(held).to.include.members([folder().bytes("a/one"), folder().bytes("b/two")]);
  });

  it("that is cut off while sources are exchanged loses none that was added at run time", async () => {
    {
      await using daemon = await launchIn(folder(), { sources: await sources("a", "b") });
      await daemon.operation.start();
      await daemon.operation.started();
      await daemon.operation.protect([folder().bytes("a")], "more", {});
      await daemon.parts.book.remove("more", true);
      await daemon.parts.book.remove("b");
    }
    await using daemon = await launchIn(folder(), { sources: await sources("a") });
    expect(daemon.parts.book.all().map(({ name }) => name)).to.have.members(["a", "more"]);
  });
});

describe("telling by another configuration", () => {
  const alerts = (name: string): AlertsConfiguration => ({
    channels: [],
    rules: [{ ...rule("file_lost"), actions: [name] }],
  });

  function stage(): { telling: Telling; bus: EventBus; channels: RecordingChannel[]; broken: Set<string> } {
    const [bus, clock, observer, bucket] = [
      new EventBus(() => undefined),
      new FakeClock(),
      new RecordingObserver(),
      new MemoryBucket(),
    ];
    const channels: RecordingChannel[] = [];
    const broken = new Set<string>();
    const auto = { retry: () => Promise.resolve(), cleanup: () => Promise.resolve() };
    const ports: TellingPorts = {
      channels: (configured) => {
        const channel = new RecordingChannel(configured.rules[0]?.actions[0] ?? "");
        channels.push(channel);
        return Promise.resolve([channel]);
      },
      open: async (configured, opened) => {
        if (broken.has(opened[0]?.name ?? "")) throw new HoldfastError("STORE_IO", "no outbox");
        const rules = alertRules({ ...configured, channels: opened.map(({ name }) => ({ name })) as never });
        return await AlertDispatcher.open({ bus, bucket, channels: opened, rules, auto, clock, observer, host: "h" });
      },
    };
    const telling = new Telling();
    telling.openWith(ports);
    return { telling, bus, channels, broken };
  }

  it("goes on as before when the new way cannot be opened", async () => {
    const { telling, channels, broken } = stage();
    await using _closing = telling;
    await telling.take(alerts("old"), undefined);
    broken.add("new");
    expect(hasCode(await rejection(telling.take(alerts("new"), alerts("old"))), "STORE_IO")).to.equal(true);
    await telling.dispatcher?.test("old");
    expect(channels.filter(({ delivered }) => delivered.length > 0).map(({ name }) => name)).to.deep.equal(["old"]);
    broken.clear();
    await telling.take(alerts("new"), alerts("old"));
    await telling.dispatcher?.test("new");
    expect(channels.at(-2)?.name, "the last of the new kind").to.equal("new");
  });
});

function rule(when: "file_lost"): AlertsConfiguration["rules"][number] {
  return { when, severity: "info", threshold: undefined, actions: [], autoRetry: undefined, autoCleanup: false };
}
