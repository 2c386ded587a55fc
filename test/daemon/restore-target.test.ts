/** A restore below a folder that cannot be made is told as what it is: the person's matter, and no fault of holdfast. */
import { expect } from "chai";
import { pathFromText } from "../../src/base/paths.js";
import { launchIn } from "../support/launched.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a restore to a folder", () => {
  const folder = useTempFolder("restore-target");

  it("that cannot be made says why", async () => {
    const file = await folder().write("data/file", "content");
    await using daemon = await launchIn(folder(), { sources: [{ name: "data", paths: [folder().at("data")] }] });
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: [], compression: true });
    const wish = { in_place: false, overwrite: "if-changed", delete: false, verify: true, sparse: false } as const;
    for (const [target, code] of [
      [file, "TARGET_EXISTS"],
      [`${file}/below`, "TARGET_EXISTS"],
      ["/proc/holdfast/below", "TARGET_IO"],
    ] as const) {
      const request = { ...wish, backup_id: "latest", files: [], sources: [], target: pathFromText(target) };
      const { id } = await daemon.services.backups.restore({ ...request, dry_run: false });
      const { error } = await daemon.services.system.job(id, 20_000, new AbortController().signal);
      expect(error, target).to.include({ code });
      expect(error?.message, target).to.contain(target);
    }
  });
});
