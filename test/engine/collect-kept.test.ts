/** A collection that rewrites or lets go of packs, and what stands beside: damaged records, and lists that name others too. */
import { expect } from "chai";
import { access, readFile, rm, writeFile } from "node:fs/promises";
import { systemClock } from "../../src/base/clock.js";
import type { BytePath } from "../../src/base/paths.js";
import { check } from "../../src/engine/check.js";
import { gc, type GcReport } from "../../src/engine/gc.js";
import { decodeFragment } from "../../src/engine/index/fragments.js";
import type { Repository } from "../../src/engine/repository.js";
import { codeOf, noise } from "../support/engine-keys.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { useTempFolder } from "../support/temp-folder.js";

/** Thinning begins when some old delta commits are there. */
const OLD_SEALS = 12;

describe("a collection", () => {
  const folder = useTempFolder("collect-kept");
  let rig: EngineRig;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
  });

  async function stored(repository: Repository, name: string, content: string | Uint8Array): Promise<BytePath> {
    await folder().write(`data/${name}`, content);
    const path = folder().bytes("data", name);
    await upsert(repository, "docs", [path]);
    return path;
  }

  /** Of `gone` only its newest, tiny content is needed from then on. */
  async function outdate(repository: Repository): Promise<void> {
    for (let round = 0; round < OLD_SEALS; round += 1) {
      await stored(repository, "gone", `content ${String(round)}`);
      await repository.seal(UNLIMITED);
    }
    await systemClock.sleep(5, UNLIMITED);
  }

  async function collect(repository: Repository): Promise<GcReport> {
    return await gc(repository, { dryRun: false, allowShare: 1, versionsKeptMs: 0 }, UNLIMITED);
  }

  it("that meets a damaged record in a pack which it rewrites keeps the pack, and says what is damaged", async () => {
    await using repository = await rig.open();
    const kept = await stored(repository, "kept", noise(20_000, 2));
    const whole = await stored(repository, "whole", noise(20_000, 3));
    await stored(repository, "gone", noise(90_000, 1));
    await repository.seal(UNLIMITED);
    const [pack = ""] = await storeFiles(rig.storeUrl, "packs/d");
    const [chunk] = repository.current(kept)?.node.chunks ?? [];
    const [place] = chunk === undefined ? [] : repository.core.parts.catalog.chunks.locations(chunk.id);
    const bytes = await readFile(pack);
    const at = (place?.offsetBytes ?? 0) + 200;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await rm(pack);
    await writeFile(pack, bytes);
    await outdate(repository);
    await collect(repository);
    await access(pack);
    expect(await codeOf(contentOf(repository, repository.current(kept)?.node))).to.equal("RECORD_DAMAGED");
    expect(await contentOf(repository, repository.current(whole)?.node)).to.deep.equal(noise(20_000, 3));
    const { problems } = await check(repository, { level: "full" }, UNLIMITED);
    expect(problems.flatMap(({ paths }) => paths.map(({ path }) => path))).to.deep.equal([kept]);
    // The live file is there: committed again it is stored anew, and then the damaged pack may go.
    await stored(repository, "again", noise(20_000, 2));
    await collect(repository);
    expect(await codeOf(access(pack))).to.equal("ENOENT");
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });

  it("lists anew what stays of a list that named packs which go", async () => {
    const contents = new Map<BytePath, Buffer>();
    {
      await using repository = await rig.open();
      await stored(repository, "gone", noise(90_000, 1));
      await repository.seal(UNLIMITED);
      contents.set(await stored(repository, "kept", noise(20_000, 2)), noise(20_000, 2));
      await repository.seal(UNLIMITED);
      await outdate(repository);
      // One list in place of all, as of a large backup.
      const { core } = repository;
      const lists = await storeFiles(rig.storeUrl, "index");
      const packs = [];
      for (const list of lists) packs.push(...decodeFragment(core.parts.opener.open(await readFile(list)).plain).packs);
      expect(packs.length).to.be.greaterThan(OLD_SEALS);
      await core.writeFragment({ packs, supersedes: [] }, UNLIMITED);
      for (const list of lists) await rm(list);
    }
    await rm(rig.stateDir, { recursive: true });
    {
      await using repository = await rig.open();
      expect((await collect(repository)).packsDeleted).to.be.greaterThan(0);
    }
    await rm(rig.stateDir, { recursive: true });
    await using repository = await rig.open();
    for (const [path, content] of contents)
      expect(await contentOf(repository, repository.current(path)?.node)).to.deep.equal(content);
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
    const held = [...repository.core.parts.catalog.chunks.holders()].filter(({ kind }) => kind !== "w");
    expect(held.every(({ fragment }) => fragment !== "")).to.equal(true);
  });
});
