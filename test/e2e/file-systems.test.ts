/**
 * The main job on each kind of file system, and as an ordinary user: a save becomes durable, what is deleted or damaged
 * comes back, a restore equals what was there.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";
import { Sandbox, until, versionsOf } from "../support/program.js";
import { TempFolder } from "../support/temp-folder.js";
import { VOLUME_KINDS, Volume } from "../support/volume.js";

const NOBODY = 65_534;
const HEALED_MS = 10_000;

for (const kind of VOLUME_KINDS) {
  describe(`on ${kind}`, () => {
    it("saves, heals and restores", async function () {
      if (process.env["HOLDFAST_TESTS_THOROUGH"] !== "1") skip(this, "mounts disks; set HOLDFAST_TESTS_THOROUGH=1");
      const missing = Volume.missing(kind);
      if (missing !== undefined) skip(this, missing);
      await using folder = await TempFolder.create("volume");
      await using volume = Volume.make(kind, folder.at("image"), folder.at("mounted"));
      await using sandbox = await Sandbox.create({ parent: volume.place });
      await mainJob(sandbox);
    });
  });
}

describe("as an ordinary user", () => {
  it("saves, heals and restores", async function () {
    requireRoot(this); // who is none runs all other tests as one
    requirePrograms(this, "setpriv", "diff");
    await using sandbox = await Sandbox.create({ userId: NOBODY });
    try {
      await mainJob(sandbox);
    } catch (error) {
      if (!canStart(sandbox)) skip(this, "the checkout cannot be read by other users");
      throw error;
    }
  });
});

async function mainJob(sandbox: Sandbox): Promise<void> {
  const kept = join(sandbox.data, "sub", "kept.txt");
  const settings = join(sandbox.data, "settings.json");
  await mkdir(join(sandbox.data, "sub"));
  await sandbox.own();
  await sandbox.start();
  await writeFile(kept, "first");
  await writeFile(settings, '{"colour": "green", "size": 3}\n');
  await sandbox.own();
  await sandbox.settled(kept);
  await sandbox.settled(settings);
  expect(versionsOf(await sandbox.run("versions", kept, "--json"))).to.have.length.of.at.least(1);

  await rm(kept);
  await until("the deleted file is back", HEALED_MS, () => existsSync(kept));
  expect(await readFile(kept, "utf8")).to.equal("first");

  await writeFile(settings, '{"colour": "gre');
  await until("the damaged file is whole", HEALED_MS, async () =>
    (await readFile(settings, "utf8").catch(() => "")).includes('"size": 3'),
  );

  await until("nothing is pending", HEALED_MS, async () => {
    const { sources } = await sandbox.json<{ sources: { pending_changes: number }[] }>("status");
    return sources.every((source) => source.pending_changes === 0);
  });
  const target = join(sandbox.home, "restored");
  const restored = await sandbox.run("restore", "--at", new Date().toISOString(), "--target", target);
  expect(restored.exitCode, restored.stderr).to.equal(0);
  execFileSync("diff", ["-r", sandbox.data, join(target, sandbox.data)]);
  expect((await sandbox.run("check", "--read-data")).exitCode).to.equal(0);
}

function canStart(sandbox: Sandbox): boolean {
  chmodSync(sandbox.home, 0o755);
  try {
    const user = [`--reuid=${String(NOBODY)}`, `--regid=${String(NOBODY)}`, "--clear-groups"];
    execFileSync("setpriv", [...user, process.execPath, ...sandbox.commandLine("version")], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
