/** What holdfast puts back is not heard as somebody's deed: `npm run bench:own-restores` does it ten thousand times. */
import { expect } from "chai";
import { countOwnRestores } from "../support/own-restores.js";

describe("holdfast's own restores", () => {
  it("are heard by the watcher as nothing, and begin no other loss", async () => {
    const { restores, told, ...faults } = await countOwnRestores({ restores: 80, batch: 80, graceMs: 100 });
    expect(faults).to.deep.equal({ foreign: [], unlike: [], wrong: [], notHealed: [], faults: [] });
    expect([restores, told]).to.deep.equal([80, 80]);
  });
});
