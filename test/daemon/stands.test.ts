/** Where repositories stood: a store that is configured again, after another, is not begun anew in its empty place. */
import { readFile } from "node:fs/promises";
import { expect } from "chai";
import { noteStand, refuseToReplace } from "../../src/daemon/store.js";
import { codeOf } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("what is remembered of where repositories stood", () => {
  const folder = useTempFolder("stands");
  const at = (storeUrl: string) => ({ storeUrl, stateDir: folder().path });

  it("holds every place, also after another was configured meanwhile, and refuses none that is new", async () => {
    await noteStand(at("/a"), "first");
    await noteStand(at("/b"), "second");
    for (const place of ["/a", "/b"])
      expect(await codeOf(refuseToReplace(at(place))), place).to.equal("REPO_NOT_FOUND");
    await refuseToReplace(at("/c"));
    await noteStand(at("/a"), "made anew by a person");
    await noteStand(at("/b"), "second");
    const text = await readFile(folder().at("repository.json"), "utf8");
    expect(text).to.contain("made anew by a person").and.not.contain("first");
  });
});
