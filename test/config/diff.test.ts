/** The plan of a reload: what changes, in words. */
import { expect } from "chai";
import type { Configuration } from "../../src/config/configuration.js";
import { diffConfigurations } from "../../src/config/diff.js";
import { loadConfiguration } from "../../src/config/load.js";
import { useTempFolder } from "../support/temp-folder.js";

const folder = useTempFolder("diff");

async function load(text: string): Promise<Configuration> {
  const configFile = await folder().write("holdfast.yaml", text);
  return await loadConfiguration({ configFile, env: { HOME: "/h" }, isRoot: false });
}

describe("the plan of a reload", () => {
  it("names sources that come, go and change, and says that backups stay", async () => {
    const before = await load("sources: [{name: old, path: /old}, {name: etc, path: /etc, rpo: 5m}]\n");
    const after = await load(
      "sources: [{name: etc, path: /etc, rpo: 1m}, {name: media, path: /m}]\nlog: {level: debug}\n",
    );
    const { plan, needsRestart } = diffConfigurations(before, after);
    expect(plan).to.deep.equal([
      "- source old (its backups stay)",
      "~ source etc rpo 5 m 0 s -> 1 m 0 s",
      "+ source media /m",
      "~ log.level info -> debug",
    ]);
    expect(needsRestart).to.deep.equal([]);
  });

  it("is empty when nothing changes", async () => {
    const text = "sources: [/a]\nschedule: {daily: {}}\n";
    expect(diffConfigurations(await load(text), await load(text)).plan).to.deep.equal([]);
  });

  it("names what needs a restart", async () => {
    const { plan, needsRestart } = diffConfigurations(await load("store: /a\n"), await load("store: /b\n"));
    expect(plan).to.deep.equal(["~ store_url /a -> /b"]);
    expect(needsRestart).to.deep.equal(["store"]);
  });

  it("never shows a secret, only where it is", async () => {
    const before = await load("encryption: {key: {env: A}}\n");
    const after = await load("encryption: {key: {file: /k}}\n");
    expect(diffConfigurations(before, after).plan.join()).to.contain("/k");
  });
});
