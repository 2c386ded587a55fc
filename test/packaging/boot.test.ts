/** The service under a real systemd, booted in a container: what `scripts/boot-service.sh` sees there. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect } from "chai";
import { BUILT_ROOT, projectPath } from "../support/project.js";
import { requirePrograms, requireRoot, skip } from "../support/requirements.js";

/** Two minutes, and as long again for the first download of the system. */
const TIMEOUT_MS = 480_000;
const CANNOT_RUN = 77;

describe("the service under a booted systemd", () => {
  it("starts, is watched over, reloads, comes back and stops, as its pages say", async function () {
    if (process.env["HOLDFAST_TESTS_THOROUGH"] !== "1") skip(this, "boots a system; set HOLDFAST_TESTS_THOROUGH=1");
    requireRoot(this);
    requirePrograms(this, "systemd-nspawn", "debootstrap", "nsenter");
    this.timeout(TIMEOUT_MS);
    const env = { ...process.env, HOLDFAST_DIST: BUILT_ROOT };
    const child = spawn(projectPath("scripts", "boot-service.sh"), [], { env, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (part: Buffer) => (said += part.toString("utf8")));
    const [exitCode] = (await once(child, "close")) as [number];
    if (exitCode === CANNOT_RUN) skip(this, said.trim());
    expect(said).to.not.contain("NOT OK");
    expect(exitCode, said).to.equal(0);
  });
});
