/** `explain`: the ways of recovery that it names are those that a heal goes, and what has nothing is said with the reason. */
import { symlink } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import type { RecoverReport } from "../../src/api/services.js";
import type { BytePath } from "../../src/base/paths.js";
import { type DaemonInProcess, launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the recovery that a path is explained to have", () => {
  const folder = useTempFolder("explain");
  const path = (source: string): BytePath => folder().bytes(source, "a.txt");

  /** A daemon in which each of these sources has a file and a link. */
  async function protecting(sources: Readonly<Record<string, object>>, pins = {}): Promise<DaemonInProcess> {
    for (const name of Object.keys(sources)) {
      await folder().write(join(name, "a.txt"), "good");
      await symlink("a.txt", folder().at(name, "link"));
    }
    const written = Object.entries(sources).map(([name, more]) => ({ name, path: folder().at(name), ...more }));
    const daemon = await launchIn(folder(), { sources: written, pins });
    await daemon.operation.start();
    await daemon.operation.started();
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
    return daemon;
  }

  /** The strategies that a heal has, in its order. */
  async function tried({ services }: DaemonInProcess, file: BytePath): Promise<string[]> {
    const job = await services.recovery.recover({ file, strategy: "auto", explain: true });
    const { result } = await services.system.job(job.id, 20_000, new AbortController().signal);
    return (result as RecoverReport).searched.map(({ strategy }) => strategy);
  }

  it("is the chain that a heal goes through, with what belongs to every chain", async () => {
    await using daemon = await protecting({ app: { recover: ["latest_backup", "git_history", "open_files"] } });
    const { recovery_chain: chain } = await daemon.services.watch.explain(path("app"));
    expect(chain).to.deep.equal(await tried(daemon, path("app")));
    expect(chain).to.include.members(["pinned", "pinned_links", "same_content"]);
  });

  it("says what has nothing, and why", async () => {
    await using daemon = await protecting({ usual: {}, critical: { priority: "critical" } }, { reflinks: false });
    const { watch } = daemon.services;
    const notes = async (of: BytePath): Promise<readonly string[]> => (await watch.explain(of)).recovery_notes;
    expect(await notes(path("usual"))).to.deep.equal([
      "pinned, pinned_links: nothing, because the source is not critical",
    ]);
    expect(await notes(path("critical"))).to.deep.equal([
      "pinned_links: nothing, because pins.reflinks and pins.hard_links are off",
    ]);
    const link = await watch.explain(folder().bytes("usual", "link"));
    expect(link.recovery_chain).to.deep.equal([]);
    expect(link.recovery_notes).to.deep.equal(["made again from what is recorded of it; no strategy is asked"]);
    const outside = await watch.explain(folder().bytes("elsewhere"));
    expect([outside.recovery_chain, outside.recovery_notes]).to.deep.equal([[], []]);
  });
});
