/** Files deeper than a path can say, in a protected folder: kept when they change, and back when they are lost. */
import { readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { expect } from "chai";
import { errnoOf } from "../../src/base/errors.js";
import { type BytePath, joinPath } from "../../src/base/paths.js";
import { reach } from "../../src/base/reach.js";
import { DEEP_NAME, makeDeepFolders, removeDeepFolders } from "../support/deep-folder.js";
import { launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { useTempFolder } from "../support/temp-folder.js";

const LEVELS = 50;
const GOOD = '{"good": true}';
const DAMAGED = '{"goo';

describe("a file that lies 10,000 bytes deep", () => {
  const folder = useTempFolder("deep-paths");

  function contentAt(path: BytePath): string | undefined {
    try {
      return reach(path, (place) => readFileSync(place, "utf8"));
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  it("is stored when it changes, and put back when it is deleted", async () => {
    const data = await folder().folder("data");
    makeDeepFolders(data, LEVELS, (place, below) => {
      if (below === 0) writeFileSync(`${place}/file`, "first");
    });
    const names = Array.from({ length: LEVELS }, () => DEEP_NAME);
    const path = joinPath(names.reduce(joinPath, folder().bytes("data")), "file");
    try {
      await using daemon = await launchIn(folder(), { sources: [] });
      await daemon.operation.start();
      const { watch, backups } = daemon.services;
      await watch.protect({ paths: [folder().bytes("data")] });
      await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
      reach(path, (place) => writeFileSync(place, "second"));
      await until("the change is stored", 10_000, async () => (await backups.versions(path)).length === 2);
      reach(path, (place) => unlinkSync(place));
      await until("it is back", 10_000, () => Promise.resolve(contentAt(path) === "second"));
      expect((await watch.sources()).map(({ files_unreadable }) => files_unreadable)).to.deep.equal([0]);
    } finally {
      removeDeepFolders(data);
    }
  });

  it("is put back when it is damaged, and its damaged content when a person wants that again", async () => {
    const data = await folder().folder("data");
    makeDeepFolders(data, LEVELS, (place, below) => {
      if (below === 0) writeFileSync(`${place}/file.json`, GOOD);
    });
    const names = Array.from({ length: LEVELS }, () => DEEP_NAME);
    const path = joinPath(names.reduce(joinPath, folder().bytes("data")), "file.json");
    try {
      await using daemon = await launchIn(folder(), { sources: [] });
      await daemon.operation.start();
      const { watch, recovery } = daemon.services;
      await watch.protect({ paths: [folder().bytes("data")] });
      await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
      reach(path, (place) => writeFileSync(place, DAMAGED));
      await until("it is good again", 10_000, () => Promise.resolve(contentAt(path) === GOOD));
      const isHealed = async (): Promise<boolean> => (await recovery.incidents(false, 9))[0]?.state === "healed";
      await until("it is told", 10_000, isHealed);
      const [incident] = await recovery.incidents(false, 9);
      await recovery.restoreQuarantined(incident?.id ?? "");
      expect(contentAt(path)).to.equal(DAMAGED);
    } finally {
      removeDeepFolders(data);
    }
  });
});
