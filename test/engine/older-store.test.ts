/**
 * A store that is put back to an earlier state beside an index that knows a later one: a snapshot of its disk rolled
 * back, a disk that lost what it had called durable. Nothing that the index remembers may stand in for what is gone.
 */
import { expect } from "chai";
import { cp, rename, rm, stat, truncate, writeFile } from "node:fs/promises";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { expectSound } from "../support/store-scenario.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("an index beside a store that was put back to an earlier state", () => {
  const folder = useTempFolder("older-store");

  const file = async (name: string, content: string): Promise<BytePath> => {
    await writeFile(folder().at(name), content);
    return pathFromText(folder().at(name));
  };

  /** Keeps a folder as it is on disk now, without a clean end; the function that is given puts it back so. */
  const keep = async (place: string): Promise<() => Promise<void>> => {
    const kept = `${place}.kept`;
    await cp(place, kept, { recursive: true });
    return async () => {
      await rm(place, { recursive: true });
      await rename(kept, place);
    };
  };

  it("takes nothing from a log that became shorter for stored", async () => {
    const rig = await EngineRig.create(folder());
    const early = await file("early", "kept in the log");
    const late = await file("late", "lost with the end of the log");
    const putBack: (() => Promise<void>)[] = [];
    {
      await using repository = await rig.open();
      await upsert(repository, "docs", [early]);
      putBack.push(await keep(rig.storeUrl));
      await upsert(repository, "docs", [late]);
      putBack.push(await keep(rig.stateDir));
    }
    for (const each of putBack) await each();
    await using repository = await rig.open();
    expect(await storeFiles(rig.storeUrl, "wal")).to.have.lengthOf(1);
    expect(repository.current(late, "docs")).to.equal(undefined);
    await upsert(repository, "docs", [late]);
    const content = await contentOf(repository, repository.current(late, "docs")?.node);
    expect(content.toString()).to.equal("lost with the end of the log");
    await expectSound(repository);
  });

  it("takes back a removal whose frame was zeroed by a power cut", async () => {
    const rig = await EngineRig.create(folder());
    const early = await file("early", "kept in the log");
    const putBack: (() => Promise<void>)[] = [];
    {
      await using repository = await rig.open();
      await upsert(repository, "docs", [early]);
      const [segment] = await storeFiles(rig.storeUrl, "wal");
      const { size } = await stat(segment ?? "");
      await repository.commitChanges("docs", [{ path: early, kind: "remove" }], UNLIMITED);
      putBack.push(await keep(rig.stateDir));
      putBack.push(await keep(rig.storeUrl));
      putBack.push(async () => {
        const { size: fullSize } = await stat(segment ?? "");
        await truncate(segment ?? "", size);
        await truncate(segment ?? "", fullSize);
      });
    }
    for (const each of putBack) await each();
    await using repository = await rig.open();
    expect(repository.current(early, "docs")?.path).to.equal(early);
  });

  it("is of another generation whenever numbers may be of other commits, and of the same as long as they are not", async () => {
    const rig = await EngineRig.create(folder());
    const path = await file("text", "first");
    const generations: string[] = [];
    const use = async (content: string): Promise<number> => {
      await using repository = await rig.open();
      generations.push(repository.generation);
      await writeFile(folder().at("text"), content);
      await upsert(repository, "docs", [path]);
      return repository.lastChange("docs");
    };
    await use("first");
    const putBack = await keep(rig.storeUrl);
    const before = await use("second");
    await use("third");
    await putBack();
    expect(await use("fourth")).to.be.at.most(before + 1);
    await use("fifth");
    expect(generations[2]).to.equal(generations[0]);
    expect(generations[3]).not.to.equal(generations[0]);
    expect(generations[4]).to.equal(generations[3]);
  });
});
