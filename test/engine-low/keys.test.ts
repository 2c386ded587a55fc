/** Keys: slots that open with the right secret only, a recovery key that forgives a hasty hand. */
import { createHash, createHmac } from "node:crypto";
import { expect } from "chai";
import fc from "fast-check";
import { Secret } from "../../src/base/observe.js";
import { hmacOfDigest } from "../../src/engine/crypto/hmac.js";
import { encodeRecoveryKey, parseRecoveryKey } from "../../src/engine/crypto/recovery-key.js";
import { encodeSlot, openSlot, parseSlot } from "../../src/engine/crypto/slots.js";
import { PBKDF2_KDF } from "../../src/engine/crypto/kdf.js";
import {
  addSlot,
  deriveKeys,
  listSlots,
  newKeyBytes,
  newMasterKey,
  newRecoveryKey,
  removeSlot,
  type UnlockWith,
  unlockMasters,
} from "../../src/engine/keys.js";
import type { Backend } from "../../src/storage/backend.js";
import { openBackend } from "../../src/storage/open.js";
import { codeOf, NEVER, thrownCode } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

const REPOSITORY = Buffer.alloc(32, 3);

describe("the keyed hash of a digest", () => {
  it("is the HMAC that everybody else computes, whatever keys take turns", () => {
    const bytesArb = fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(bytesArb, bytesArb, fc.uint8Array({ minLength: 32, maxLength: 32 }), (one, other, digest) => {
        const hex = Buffer.from(digest).toString("hex");
        for (const key of [one, other, one]) {
          expect(hmacOfDigest(key, hex)).to.equal(createHmac("sha256", key).update(digest).digest("hex"));
        }
      }),
    );
  });
});

describe("key slots", () => {
  const folder = useTempFolder("keys");
  const master = newMasterKey();
  let backend: Backend;

  beforeEach(async () => {
    backend = await openBackend(folder().at("store"), { create: true });
  });

  async function add(unlock: UnlockWith) {
    return await addSlot(backend, REPOSITORY, { masters: [master], unlock, createdMs: 1000 }, NEVER);
  }

  async function unlocked(unlock: UnlockWith): Promise<boolean> {
    return (await unlockMasters(backend, REPOSITORY, unlock, NEVER)).masters[0]?.equals(master) === true;
  }

  it("open with the password, the key file or the recovery key that made them", async () => {
    const keyBytes = newKeyBytes();
    const recoveryKey = newRecoveryKey();
    const password = new Secret("correct horse");
    for (const unlock of [{ password }, { keyBytes }, { recoveryKey }]) await add(unlock);
    for (const unlock of [{ password }, { keyBytes }, { recoveryKey }]) expect(await unlocked(unlock)).to.equal(true);
    expect((await listSlots(backend, NEVER)).map(({ kind }) => kind).sort()).to.deep.equal([
      "password",
      "raw",
      "recovery",
    ]);
  });

  it("do not open with anything else", async () => {
    await add({ password: new Secret("correct horse") });
    await add({ keyBytes: newKeyBytes() });
    const wrong: UnlockWith[] = [
      { password: new Secret("wrong horse") },
      { keyBytes: newKeyBytes() },
      { keyBytes: Buffer.alloc(3) },
      { recoveryKey: newRecoveryKey() },
      { recoveryKey: new Secret("not a key") },
    ];
    for (const unlock of wrong) expect(await codeOf(unlocked(unlock))).to.equal("REPO_KEY_WRONG");
    expect(await codeOf(unlocked({}))).to.equal("REPO_KEY_MISSING");
  });

  it("say that a key is missing when there is no slot", async () => {
    expect(await codeOf(unlocked({ keyBytes: newKeyBytes() }))).to.equal("REPO_KEY_MISSING");
  });

  it("can be removed by id, but for the last one", async () => {
    const old = newKeyBytes();
    const { id } = await add({ keyBytes: old });
    expect(await codeOf(removeSlot(backend, id, NEVER))).to.equal("LIMIT_REACHED");
    const recoveryKey = newRecoveryKey();
    await add({ recoveryKey });
    expect(await codeOf(removeSlot(backend, "0".repeat(64), NEVER))).to.equal("NOT_FOUND");
    await removeSlot(backend, id, NEVER);
    expect(await codeOf(unlocked({ keyBytes: old }))).to.equal("REPO_KEY_WRONG");
    expect(await unlocked({ recoveryKey })).to.equal(true);
  });

  it("survive a damaged slot beside them", async () => {
    const keyBytes = newKeyBytes();
    await add({ keyBytes });
    await backend.put(`keys/${"a".repeat(64)}`, Buffer.from("{}"), NEVER);
    expect(await unlocked({ keyBytes })).to.equal(true);
  });

  it("cannot be weakened: a changed parameter does not open", async () => {
    const secret = {
      kind: "password",
      password: new Secret("pass"),
      kdf: { ...PBKDF2_KDF, iterations: 1000 },
    } as const;
    const bytes = await encodeSlot({ repositoryId: REPOSITORY, masters: [master], secret, createdMs: 0 });
    expect((await openSlot(parseSlot(bytes), REPOSITORY, secret))?.[0]?.equals(master)).to.equal(true);
    const changed = parseSlot(Buffer.from(bytes.toString("utf8").replace("1000", "1001")));
    expect(await openSlot(changed, REPOSITORY, secret)).to.equal(undefined);
    expect(await openSlot(parseSlot(bytes), Buffer.alloc(32), secret)).to.equal(undefined);
  });

  it("refuse to be opened at the price of the machine", async () => {
    const password = new Secret("pass");
    const secret = { kind: "password", password, kdf: { ...PBKDF2_KDF, iterations: 1000 } } as const;
    const bytes = await encodeSlot({ repositoryId: REPOSITORY, masters: [master], secret, createdMs: 0 });
    const greedy = parseSlot(Buffer.from(bytes.toString("utf8").replace("1000", "4000000000")));
    expect(await codeOf(openSlot(greedy, REPOSITORY, secret))).to.equal("LIMIT_REACHED");
    const scrypt = { name: "scrypt", costLog2: 30, blockSize: 8, parallel: 1 } as const;
    expect(await codeOf(openSlot({ ...greedy, kdf: scrypt }, REPOSITORY, secret))).to.equal("LIMIT_REACHED");
  });

  it("answer any bytes with a coded error", () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        expect(thrownCode(() => parseSlot(Buffer.from(text)))).to.be.oneOf([
          "OBJECT_DAMAGED",
          "REPO_FORMAT_UNSUPPORTED",
        ]);
      }),
    );
  });

  it("hold no secret in the open", async () => {
    const password = new Secret("correct horse");
    const { id } = await add({ password });
    const bytes = await backend.get(`keys/${id}`, NEVER);
    expect(id).to.equal(createHash("sha256").update(bytes).digest("hex"));
    expect(bytes.toString("utf8")).to.not.include(master.toString("hex")).and.not.include("horse");
  });
});

describe("recovery key", () => {
  it("is read back from what is printed, whatever the case, spaces and look-alikes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 20, maxLength: 20 }), (secret) => {
        const text = encodeRecoveryKey(secret);
        expect(text).to.match(/^(?:[0-9A-HJKMNP-TV-Z]{5}-){7}[0-9A-HJKMNP-TV-Z]{5}$/);
        const sloppy = text.toLowerCase().replaceAll("-", " \n").replaceAll("0", "o").replaceAll("1", "l");
        expect(parseRecoveryKey(sloppy).equals(secret)).to.equal(true);
      }),
    );
  });

  it("tells a slip of the pen from a wrong key", () => {
    const text = encodeRecoveryKey(Buffer.alloc(20, 5));
    for (let at = 0; at < text.length; at += 1) {
      if (text[at] === "-") continue;
      const changed = text.slice(0, at) + (text[at] === "7" ? "8" : "7") + text.slice(at + 1);
      expect(
        thrownCode(() => parseRecoveryKey(changed)),
        `character ${at}`,
      ).to.equal("REPO_KEY_WRONG");
    }
    expect(thrownCode(() => parseRecoveryKey(""))).to.equal("REPO_KEY_WRONG");
    expect(thrownCode(() => parseRecoveryKey("U".repeat(40)))).to.equal("REPO_KEY_WRONG");
  });
});

describe("derived keys", () => {
  it("differ by purpose, by master and by repository", () => {
    const sets = [
      deriveKeys(REPOSITORY, [Buffer.alloc(32, 1)]),
      deriveKeys(REPOSITORY, [Buffer.alloc(32, 2)]),
      deriveKeys(Buffer.alloc(32, 4), [Buffer.alloc(32, 1)]),
    ];
    const all = sets.flatMap(({ recordMaster, idKey, chunkerKey }) => [recordMaster, idKey, chunkerKey]);
    expect(new Set(all.map((key) => Buffer.from(key ?? []).toString("hex"))).size).to.equal(9);
  });

  it("of a repository without encryption are the chunker's alone", () => {
    const { recordMaster, idKey, chunkerKey } = deriveKeys(REPOSITORY, []);
    expect([recordMaster, idKey]).to.deep.equal([undefined, undefined]);
    expect(chunkerKey.length).to.equal(32);
  });
});
