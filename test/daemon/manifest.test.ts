/** What a manifest says of where and of what its backup was made. */
import { execFileSync } from "node:child_process";
import { hostname } from "node:os";
import { expect } from "chai";
import type { Manifest } from "../../src/engine/types.js";
import { launchIn } from "../support/launched.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a manifest", () => {
  const folder = useTempFolder("manifest");

  async function metadataOf(): Promise<Manifest["metadata"]> {
    await folder().write("data/a.txt", "content");
    await using daemon = await launchIn(folder(), { sources: [{ name: "data", paths: [folder().at("data")] }] });
    await daemon.operation.plan.backUpNow({ type: "full", sources: [], tags: ["before-upgrade"], compression: true });
    return (await daemon.services.backups.show("latest")).metadata;
  }

  function git(...args: string[]): string {
    const author = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    return execFileSync("git", ["-C", folder().at("data"), ...author, ...args], { encoding: "utf8" }).trim();
  }

  it("names the commit and the branch of the work tree that it saves", async function () {
    requirePrograms(this, "git");
    await folder().write("data/a.txt", "content");
    git("init", "-q", "-b", "trunk");
    git("add", "a.txt");
    git("commit", "-q", "-m", "first");
    const metadata = await metadataOf();
    expect(metadata).to.include({ git_commit: git("rev-parse", "HEAD"), git_branch: "trunk", hostname: hostname() });
    expect(metadata.system_version).to.match(/^holdfast \d/);
    expect(metadata.tags).to.deep.equal(["before-upgrade"]);
  });

  it("names none outside a work tree", async () => {
    expect(await metadataOf()).to.include({ git_commit: null, git_branch: null, hostname: hostname() });
  });
});
