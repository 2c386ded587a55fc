/** What `health` tells a machine of a whole daemon: how bad each finding is, in step with its exit code. */
import { rename } from "node:fs/promises";
import { expect } from "chai";
import { launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the health of the daemon", () => {
  const folder = useTempFolder("health");

  it("is worth a look in a pause, which is no failure, and failing when the state folder is gone", async () => {
    await folder().write("data/plan.txt", "a plan");
    await using daemon = await launchIn(folder(), { sources: [{ name: "data", path: folder().at("data") }] });
    const { system, watch } = daemon.services;
    await daemon.operation.start();
    await daemon.operation.started();
    const told = async (): Promise<readonly unknown[]> => {
      const { exit_code: code, state, checks } = await system.health();
      return [code, state, ...checks.filter(({ ok }) => !ok).map(({ name, level }) => `${name} ${level}`)];
    };
    expect(await told()).to.deep.equal([0, "healthy"]);
    await watch.pause(undefined, 60_000, "a deployment");
    expect(await told()).to.deep.equal([0, "attention", "watching attention"]);
    await rename(folder().at("state"), folder().at("away"));
    expect(await told()).to.deep.equal([1, "failing", "store failing", "watching attention"]);
    await rename(folder().at("away"), folder().at("state"));
  });
});
