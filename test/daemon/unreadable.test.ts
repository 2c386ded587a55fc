/** A file that cannot be read: who protects it is told, and so is who asks how things stand. */
import { execFileSync } from "node:child_process";
import { expect } from "chai";
import { launchIn } from "../support/launched.js";
import { requireRoot } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

/** A file of the kernel that not even root can read. */
const WRITE_ONLY = "/sys/bus/cpu/drivers_probe";

describe("protecting what cannot be read", () => {
  const folder = useTempFolder("unreadable");

  it("says how many files are not protected", async function () {
    requireRoot(this);
    const secret = await folder().write("data/secret", "");
    await folder().write("data/open", "text");
    execFileSync("mount", ["--bind", WRITE_ONLY, secret]);
    try {
      await using daemon = await launchIn(folder(), {});
      await daemon.operation.start();
      const [source] = await daemon.services.watch.protect({ paths: [folder().bytes("data")], name: "data" });
      expect(source).to.include({ name: "data", state: "protected", files_unreadable: 1 });
    } finally {
      execFileSync("umount", [secret]);
    }
  });
});
