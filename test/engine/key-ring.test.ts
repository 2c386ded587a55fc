/** Keys of an open repository: added, removed, rotated; what was stored before stays readable without being stored again. */
import { expect } from "chai";
import { readFile, rm, writeFile } from "node:fs/promises";
import { check } from "../../src/engine/check.js";
import { Secret } from "../../src/base/observe.js";
import { addSlot, newMasterKey, type UnlockWith, unlockMasters } from "../../src/engine/keys.js";
import { parseHeader } from "../../src/engine/pack/record.js";
import type { Repository } from "../../src/engine/repository.js";
import { contentOf, EngineRig, storeFiles, UNLIMITED, upsert } from "../support/engine-rig.js";
import { FaultIo } from "../support/fault-io.js";
import { codeOf } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("keys of an open repository", () => {
  const folder = useTempFolder("key-ring");
  let rig: EngineRig;

  beforeEach(async () => {
    rig = await EngineRig.create(folder());
  });

  async function stored(repository: Repository, name: string, text: string): Promise<void> {
    await writeFile(folder().at(name), text);
    await upsert(repository, "s", [folder().bytes(name)]);
  }

  async function textOf(repository: Repository, name: string): Promise<string> {
    return (await contentOf(repository, repository.current(folder().bytes(name))?.node)).toString();
  }

  /** Key numbers of the records in all packs. */
  async function keyNumbers(): Promise<Set<number>> {
    const numbers = new Set<number>();
    for (const file of await storeFiles(rig.storeUrl, "packs"))
      numbers.add(parseHeader((await readFile(file)).subarray(48)).keyNumber);
    return numbers;
  }

  async function opens(unlock: EngineRig["unlock"]): Promise<string> {
    try {
      await using repository = await rig.open({ readOnly: true, ...(unlock === undefined ? {} : { unlock }) });
      return await textOf(repository, "a");
    } catch (error) {
      return (error as { readonly code: string }).code;
    }
  }

  it("one too many is refused, for it could hide the slot of the key in use", async () => {
    let added = 0;
    const error = await (async () => {
      await using repository = await rig.open();
      await stored(repository, "a", "one");
      for (; added < 40; added += 1) await repository.newRecoveryKey(UNLIMITED);
      return undefined;
    })().catch((thrown: unknown) => thrown);
    expect(await opens(rig.unlock)).to.equal("one");
    expect((error as { readonly code?: string } | undefined)?.code).to.equal("LIMIT_REACHED");
    expect(added).to.equal(30);
  });

  it("several passwords open it, each until it is removed", async () => {
    const first = { password: new Secret("first password") };
    const second = { password: new Secret("second password") };
    {
      await using repository = await rig.open();
      await stored(repository, "a", "one");
      await repository.addKey({ unlock: first, passwordKdf: "pbkdf2-sha256" }, UNLIMITED);
      await repository.addKey({ unlock: second, passwordKdf: "pbkdf2-sha256" }, UNLIMITED);
    }
    expect(await opens(first)).to.equal("one");
    expect(await opens(second)).to.equal("one");
    {
      await using repository = await rig.open();
      const passwords = (await repository.listKeys(UNLIMITED)).filter(({ kind }) => kind === "password");
      expect(passwords).to.have.length(2);
      for (const { id } of passwords) await repository.removeKey(id.slice(0, 12), UNLIMITED);
    }
    expect([await opens(first), await opens(second)]).to.deep.equal(["REPO_KEY_WRONG", "REPO_KEY_WRONG"]);
    expect(await opens(rig.unlock)).to.equal("one");
  });

  it("the key in use and an unknown one are not removed", async () => {
    await using repository = await rig.open();
    const raw = (await repository.listKeys(UNLIMITED)).find(({ kind }) => kind === "raw");
    expect(await codeOf(repository.removeKey(raw?.id ?? "", UNLIMITED))).to.equal("LIMIT_REACHED");
    expect(await codeOf(repository.removeKey("zz", UNLIMITED))).to.equal("NOT_FOUND");
    expect(await codeOf(repository.removeKey("", UNLIMITED))).to.equal("NOT_FOUND");
  });

  it("a damaged slot is listed as such and can be removed, but never the last good one", async () => {
    await using repository = await rig.open();
    await repository.newRecoveryKey(UNLIMITED);
    const slots = await repository.listKeys(UNLIMITED);
    const [bad, last] = slots.filter(({ kind }) => kind === "recovery");
    const path = (id = ""): string => folder().at("store/keys", id);
    const bytes = await readFile(path(bad?.id));
    bytes[40] = (bytes[40] ?? 0) ^ 1;
    await writeFile(path(bad?.id), bytes);
    const kinds = (await repository.listKeys(UNLIMITED)).map(({ kind }) => kind);
    expect(kinds.sort()).to.deep.equal(["damaged", "raw", "recovery"]);
    const removed = await repository.removeKey((bad?.id ?? "").slice(0, 10), UNLIMITED);
    expect(removed).to.include({ id: bad?.id, kind: "damaged" });
    expect((await repository.listKeys(UNLIMITED)).map(({ kind }) => kind).sort()).to.deep.equal(["raw", "recovery"]);
    const { problems } = await check(repository, { level: "structure" }, UNLIMITED);
    expect(problems).to.deep.equal([]);
    // With all slots damaged none goes: something may still be got out of them.
    const raw = slots.find(({ kind }) => kind === "raw");
    for (const id of [raw?.id, last?.id]) await writeFile(path(id), "{}");
    expect(await codeOf(repository.removeKey(last?.id ?? "", UNLIMITED))).to.equal("OBJECT_DAMAGED");
  });

  it("an unencrypted repository has none to add or rotate", async () => {
    rig = await EngineRig.create(folder().below("plain"), { encrypt: false });
    await using repository = await rig.open();
    const unlock = { password: new Secret("x") };
    expect(await codeOf(repository.addKey({ unlock }, UNLIMITED))).to.equal("UNSUPPORTED");
    expect(await codeOf(repository.rotateKeys({ unlock }, UNLIMITED))).to.equal("UNSUPPORTED");
  });

  it("after a rotation new data is under the new master, old data is readable and is not stored again", async () => {
    const old = { password: new Secret("old password") };
    const unlock = rig.unlock ?? {};
    let recoveryKey: Secret;
    {
      await using repository = await rig.open();
      await stored(repository, "a", "one");
      await repository.addKey({ unlock: old, passwordKdf: "pbkdf2-sha256" }, UNLIMITED);
      const rotation = await repository.rotateKeys({ unlock }, UNLIMITED);
      expect(rotation).to.deep.include({ slotsRemoved: 3, rotations: 1 });
      recoveryKey = rotation.recoveryKey;
      await stored(repository, "b", "two"); // still open with the master before
    }
    expect([...(await keyNumbers())]).to.deep.equal([0]);
    {
      await using repository = await rig.open();
      const before = (await repository.stats()).chunks;
      await writeFile(folder().at("c"), "one");
      await upsert(repository, "s", [folder().bytes("c")]);
      expect((await repository.stats()).chunks, "the content of a is known").to.equal(before);
      await stored(repository, "d", "three");
      expect(await textOf(repository, "a")).to.equal("one");
    }
    expect([...(await keyNumbers())].sort()).to.deep.equal([0, 1]);
    expect(await opens(old)).to.equal("REPO_KEY_WRONG");
    expect(await opens({ recoveryKey })).to.equal("one");
    await using repository = await rig.open();
    expect((await repository.rotateKeys({ unlock }, UNLIMITED)).rotations).to.equal(2);
    const report = await check(repository, { level: "full" }, UNLIMITED);
    expect(report.problems).to.deep.equal([]);
  });

  it("a rotation that fails at any of its steps leaves the key in use opening all, and the next one ends it", async () => {
    const unlock = rig.unlock ?? {};
    {
      await using repository = await rig.open();
      await stored(repository, "a", "one");
    }
    for (let fails = 0; fails < 40; fails += 1) {
      const io = new FaultIo();
      {
        await using repository = await rig.open({ io });
        const from = io.calls.length;
        io.plan = (_call, _path, at) => (at >= from + fails ? "EIO" : undefined);
        const error = await repository.rotateKeys({ unlock }, UNLIMITED).catch((thrown: unknown) => thrown);
        io.plan = () => undefined;
        if (!(error instanceof Error)) break;
        expect(fails).to.be.lessThan(39);
      }
      expect(await opens(unlock), `after ${String(fails)} calls`).to.equal("one");
    }
    await using repository = await rig.open();
    await repository.rotateKeys({ unlock }, UNLIMITED);
    const slots = await repository.listKeys(UNLIMITED);
    expect(slots.map(({ kind, isRetired }) => [kind, isRetired]).sort()).to.deep.equal([
      ["raw", false],
      ["recovery", false],
    ]);
  });

  it("after a rotation, whichever byte of a slot changed, all the masters open or none", async () => {
    const unlock = rig.unlock ?? {};
    await using repository = await rig.open();
    const { recoveryKey } = await repository.rotateKeys({ unlock }, UNLIMITED);
    const { backend } = repository.core.parts;
    const id = Buffer.from(repository.id, "hex");
    const open = async (secret: UnlockWith): Promise<string> => {
      const found = await unlockMasters(backend, id, secret, UNLIMITED).catch((error: unknown) => error);
      if (found instanceof Error) return "code" in found ? String(found.code) : found.message;
      return Buffer.concat((found as { masters: Buffer[] }).masters).toString("hex");
    };
    const all = await open(unlock);
    expect(all).to.have.length(2 * 2 * 32);
    for (const file of await storeFiles(rig.storeUrl, "keys")) {
      const good = await readFile(file);
      const [own, other] = good.includes('"raw"') ? [unlock, { recoveryKey }] : [{ recoveryKey }, unlock];
      for (let at = 0; at < good.length; at += 1) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8));
        await writeFile(file, bad);
        expect([await open(own), await open(other)], `byte ${String(at)}`).to.deep.equal(["REPO_KEY_WRONG", all]);
      }
      await writeFile(file, good);
    }
  });

  /** As a rotation that is cut short right after its first step. Gives the file of the slot that holds the new master. */
  async function beginRotation(): Promise<string> {
    const unlock = rig.unlock ?? {};
    await using repository = await rig.open();
    await stored(repository, "a", "one");
    const { backend, config, keyRing } = repository.core.parts;
    const masters = [...keyRing.masters, newMasterKey()];
    const slot = { masters, unlock, createdMs: 1 };
    const { id } = await addSlot(backend, Buffer.from(config.repository_id, "hex"), slot, UNLIMITED);
    return folder().at("store/keys", id);
  }

  it("an older master is not taken for the newest when that one's slot is damaged: it is refused, nothing is lost", async () => {
    const file = await beginRotation();
    {
      await using repository = await rig.open();
      await stored(repository, "b", "two"); // under the new master
    }
    const good = await readFile(file);
    for (const harm of [async () => await writeFile(file, "{}"), async () => await rm(file)]) {
      await harm();
      expect(await codeOf(rig.open())).to.equal("REPO_KEY_WRONG");
      expect(await opens(rig.unlock), "a reader of the same index").to.equal("REPO_KEY_WRONG");
      await rm(folder().at("state/index"), { recursive: true });
      expect(await codeOf(rig.open()), "without an index").to.equal("REPO_KEY_WRONG");
      await writeFile(file, good);
      await using repository = await rig.open();
      expect([await textOf(repository, "a"), await textOf(repository, "b")]).to.deep.equal(["one", "two"]);
      expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
    }
  });

  it("a new master that sealed nothing yet locks nobody out when its slot is damaged", async () => {
    const file = await beginRotation();
    {
      await using repository = await rig.open();
      expect(repository.core.keyRing.masters).to.have.length(2);
    }
    await writeFile(file, "{}");
    {
      await using repository = await rig.open();
      expect(await textOf(repository, "a")).to.equal("one");
      await stored(repository, "b", "two");
      expect((await repository.rotateKeys({ unlock: rig.unlock ?? {} }, UNLIMITED)).rotations).to.equal(1);
    }
    await using repository = await rig.open();
    await stored(repository, "c", "three");
    expect([await textOf(repository, "a"), await textOf(repository, "b")]).to.deep.equal(["one", "two"]);
    expect((await check(repository, { level: "full" }, UNLIMITED)).problems).to.deep.equal([]);
  });
});
