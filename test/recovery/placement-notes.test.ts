/** What a crash leaves of files that are put somewhere without an incident is cleared by the next start. */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { STAGING_PREFIX } from "../../src/base/atomic-file.js";
import { recoveryStrategies } from "../../src/daemon/plugins.js";
import { systemClock } from "../../src/base/clock.js";
import type { FileNode } from "../../src/engine/types.js";
import { MemoryVersions, NEVER, RecoveryRig } from "../support/recovery-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

const CHILD = fileURLToPath(new URL("../support/recover-child.js", import.meta.url));

describe("a file that is put somewhere without an incident", () => {
  const folder = useTempFolder("placement-notes");
  const notes = (): readonly string[] => readdirSync(folder().at("state/recovery/placing"));
  const crash = (path: string): void => {
    const args = [CHILD, folder().at("state"), folder().at("out"), folder().at(path), "recover_1"];
    expect(spawnSync(process.execPath, args).signal).to.equal("SIGKILL");
  };

  it("leaves nothing after a crash once the next healer has started, and other files alone", async () => {
    await using rig = await RecoveryRig.create(folder());
    await folder().write("out/sub/other", "mine");
    await folder().write(`out/sub/${STAGING_PREFIX}inc_2-abc`, "of another placement");
    crash("out/sub/file");
    expect(readdirSync(folder().at("out/sub"))).to.have.length(3);
    expect(notes()).to.have.length(1);
    await rig.start();
    expect(readdirSync(folder().at("out/sub")).sort()).to.deep.equal([`${STAGING_PREFIX}inc_2-abc`, "other"]);
    expect(notes()).to.deep.equal([]);
  });

  it("is cleared later when its storage is away at the next start, and a note that is no note is dropped", async () => {
    await folder().folder("out/sub");
    crash("out/sub/file");
    await rename(folder().at("out/sub"), folder().at("away"));
    await writeFile(folder().at("state/recovery/placing/torn.json"), '{"path":"/');
    {
      await using rig = await RecoveryRig.create(folder());
      await rig.start();
    }
    expect(notes()).to.have.length(1);
    await rename(folder().at("away"), folder().at("out/sub"));
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    expect(readdirSync(folder().at("out/sub"))).to.deep.equal([]);
    expect(notes()).to.deep.equal([]);
  });

  it("is cleared where its path is longer than the system takes, and the healer starts", async () => {
    await folder().folder("state/recovery/placing");
    const deep = `${folder().at("out")}${`/${"d".repeat(200)}`.repeat(30)}/file`;
    const note = { path: deep, root: folder().at("out"), tag: "inc_1", noted_at_ms: 0 };
    await writeFile(folder().at("state/recovery/placing/deep.json"), JSON.stringify(note));
    await using rig = await RecoveryRig.create(folder());
    await rig.start();
    expect(notes()).to.deep.equal([]);
  });

  it("is noted while it is being put elsewhere, and while it goes back from quarantine", async () => {
    const seen: (readonly string[])[] = [];
    const versions = new (class extends MemoryVersions {
      override async *readContent(node: FileNode): AsyncIterable<Buffer> {
        yield* super.readContent(node);
        seen.push(notes());
      }
    })();
    const strategies = recoveryStrategies(versions, systemClock);
    await using rig = await RecoveryRig.create(folder(), { strategies });
    await rig.start();
    const path = await rig.protect("a.json", "{}");
    versions.keep(path);
    await mkdir(folder().at("out"));
    const result = await rig.healer.recover("data", path, { to: folder().bytes("out/a.json") }, NEVER);
    expect(result.outcome).to.equal("healed");
    expect(seen.map((names) => names.length)).to.include(1);
    await writeFile(folder().at("data/a.json"), "{");
    await rig.lose(path, "invalid_structure");
    const [incident] = await rig.healer.incidents({ onlyOpen: false, limit: 1 });
    await rig.healer.restoreQuarantined(incident?.id ?? "", NEVER);
    expect(notes()).to.deep.equal([]);
  });
});
