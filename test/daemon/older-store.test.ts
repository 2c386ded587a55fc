/**
 * A store that was put back to an earlier copy while the daemon was down, and in which somebody committed on past the
 * number that the daemon had noted: what only the lost commits held is stored again from the files.
 */
import { expect } from "chai";
import { cp, rename, rm } from "node:fs/promises";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a store that was put back to an earlier copy", () => {
  const folder = useTempFolder("put-back");

  async function started(): Promise<DaemonInProcess> {
    const daemon = await launchIn(folder(), { sources: [{ name: "data", paths: [folder().at("data")] }] });
    await daemon.operation.start();
    await daemon.operation.started();
    return daemon;
  }

  function sizeStored(daemon: DaemonInProcess, name: string): number | undefined {
    return daemon.parts.repository.current(folder().bytes("data", name), "data")?.node.stat.sizeBytes;
  }

  async function save(daemon: DaemonInProcess, name: string, content: string): Promise<void> {
    await folder().write(`data/${name}`, content);
    await until(`${name} is stored`, 20_000, () => Promise.resolve(sizeStored(daemon, name) === content.length));
  }

  async function lastNumberOfRun(work: (daemon: DaemonInProcess) => Promise<void>): Promise<number> {
    await using daemon = await started();
    await work(daemon);
    return daemon.parts.repository.lastChange("data");
  }

  it("gets what it lost again, whatever number its last commit has", async () => {
    const noted = await lastNumberOfRun(async (daemon) => {
      await save(daemon, "early", "kept");
      await cp(folder().at("store"), folder().at("copy"), { recursive: true });
      await save(daemon, "early", "changed since");
      await save(daemon, "late", "came later");
    });
    await rm(folder().at("store"), { recursive: true });
    await rename(folder().at("copy"), folder().at("store"));
    {
      // Commands without a daemon open the repository by themselves.
      await using daemon = await launchIn(folder(), {});
      const { repository } = daemon.parts;
      const path = folder().bytes("other");
      for (let times = 0; repository.lastChange("other") <= noted; times += 1) {
        await folder().write("other", `content ${String(times)}`);
        await repository.commitChanges("other", [{ path, kind: "upsert" }], new AbortController().signal);
      }
    }
    await using daemon = await started();
    await until("all is stored again", 20_000, () =>
      Promise.resolve(sizeStored(daemon, "early") === 13 && sizeStored(daemon, "late") === 10),
    );
    expect(await daemon.services.recovery.incidents(false, 10)).to.deep.equal([]);
  });
});
