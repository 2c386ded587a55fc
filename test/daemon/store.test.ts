/** Making and opening the daemon's repository: the key is never lost, whatever happens in between. */
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { Secret, silentObserver } from "../../src/base/observe.js";
import { shownRecoveryKey } from "../../src/daemon/recovery-key.js";
import {
  type StoreOptions,
  isUnmade,
  makeRepository,
  noteStand,
  openRepository,
  refuseToReplace,
} from "../../src/daemon/store.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

describe("the daemon's store", () => {
  const folder = useTempFolder("store");

  it("opens with the key beside the state, which only its owner can read", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    expect((await stat(made.keyFile ?? "")).mode & 0o777).to.equal(0o600);
    await using repository = await openRepository(options);
    expect(repository.id).to.equal(made.repositoryId);
    expect(made.recoveryKey?.reveal()).to.match(/^[0-9A-Z-]{40,}$/);
  });

  it("opens a repository whose making was cut short before its key got its name", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await rename(made.keyFile ?? "", folder().at("state", "keys", "pending"));
    await using repository = await openRepository(options);
    expect(repository.id).to.equal(made.repositoryId);
  });

  it("gives its key its name when it opens one, so that making another beside it overwrites nothing", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await rename(made.keyFile ?? "", folder().at("state", "keys", "pending"));
    await (await openRepository(options))[Symbol.asyncDispose]();
    await makeRepository({ ...options, storeUrl: folder().at("another") });
    await using repository = await openRepository(options);
    expect(repository.id).to.equal(made.repositoryId);
    expect(existsSync(made.keyFile ?? "")).to.equal(true);
  });

  it("makes a repository again where only the key slots of a cut short attempt are left", async () => {
    const options = storeOptions(folder());
    await makeRepository(options);
    await rm(folder().at("store", "config"), { recursive: true });
    expect(await isUnmade(options.storeUrl), (await readdir(folder().at("store"))).join()).to.equal(true);
    await makeRepository(options);
    await using repository = await openRepository(options);
    expect(repository.encrypted).to.equal(true);
  });

  it("never takes a folder with other things in it for an empty store", async () => {
    await mkdir(folder().at("store"));
    await writeFile(folder().at("store", "thesis.txt"), "mine");
    expect(await isUnmade(folder().at("store"))).to.equal(false);
    expect(await rejection(makeRepository(storeOptions(folder())))).to.have.property("code", "REPO_NOT_EMPTY");
    expect(await readdir(folder().at("store")), "nothing is left there").to.deep.equal(["thesis.txt"]);
    expect(await readdir(folder().path), "nor a key").to.deep.equal(["store"]);
  });

  it("refuses to make another where one stands, and leaves alone a key that has not got its name", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await rename(made.keyFile ?? "", folder().at("state", "keys", "pending"));
    expect(await rejection(makeRepository(options))).to.have.property("code", "REPO_EXISTS");
    await using repository = await openRepository(options);
    expect(repository.id).to.equal(made.repositoryId);
  });

  for (const [what, code, hinder, clear] of [
    ["its folder cannot be made", "STORE_IO", async () => await writeFile(folder().at("store"), "in the way"), "store"],
    [
      "its keys cannot be stored",
      "OBJECT_MISSING",
      async () => {
        await mkdir(folder().at("store"));
        await symlink("nowhere/at-all", folder().at("store", "keys"));
      },
      "store/keys",
    ],
  ] as const) {
    it(`leaves no key when ${what}, and is made when that can be again`, async () => {
      const options = storeOptions(folder());
      await hinder();
      expect(await rejection(makeRepository(options))).to.have.property("code", code);
      expect(await readdir(folder().path)).to.deep.equal(["store"]);
      await rm(folder().at(clear));
      await makeRepository(options);
      await using repository = await openRepository(options);
      expect(repository.encrypted).to.equal(true);
    });
  }

  it("is not made anew where one stood before, whose disk may be away; elsewhere it is", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await refuseToReplace(options);
    await noteStand(options, made.repositoryId);
    await noteStand(options, made.repositoryId);
    await rename(folder().at("store"), folder().at("away"));
    expect(await isUnmade(options.storeUrl)).to.equal(true);
    const refusal = await rejection(refuseToReplace(options));
    expect(refusal).to.have.property("code", "REPO_NOT_FOUND");
    expect(String(refusal)).to.include(made.repositoryId);
    await refuseToReplace({ ...options, storeUrl: folder().at("another") });
  });

  it("shows the recovery key again where a random key lies beside the state", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await using repository = await openRepository(options);
    const place = { storeUrl: options.storeUrl, stateDir: options.stateDir, hasPassword: false };
    const shown = await shownRecoveryKey(place, repository, options.signal);
    expect([shown.recoveryKey.reveal(), shown.isNew]).to.deep.equal([made.recoveryKey?.reveal(), false]);
    const file = folder().at("state", "keys", `${repository.id}.recovery`);
    expect((await stat(file)).mode & 0o777).to.equal(0o600);
    expect(await repository.listKeys(options.signal)).to.have.length(2);
    await writeFile(file, "none at all");
    const next = await shownRecoveryKey(place, repository, options.signal);
    expect(next.isNew).to.equal(true);
    expect((await shownRecoveryKey(place, repository, options.signal)).recoveryKey.reveal()).to.equal(
      next.recoveryKey.reveal(),
    );
  });

  it("keeps no recovery key on the machine where a password opens the repository", async () => {
    const options = { ...storeOptions(folder()), password: new Secret("only in a head") };
    await makeRepository(options);
    await using repository = await openRepository(options);
    const place = { storeUrl: options.storeUrl, stateDir: options.stateDir, hasPassword: true };
    expect((await shownRecoveryKey(place, repository, options.signal)).isNew).to.equal(true);
    expect(existsSync(folder().at("state", "keys"))).to.equal(false);
  });

  it("opens with the recovery key wherever a password is given, on a machine that has nothing else", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    const key = new Secret(made.recoveryKey?.reveal().toLowerCase().replaceAll("-", " ") ?? "");
    const elsewhere = { ...options, stateDir: folder().at("elsewhere"), password: key };
    await using repository = await openRepository(elsewhere);
    expect(repository.id).to.equal(made.repositoryId);
  });

  it("says that the key is missing, and names its place", async () => {
    const options = storeOptions(folder());
    const made = await makeRepository(options);
    await rm(made.keyFile ?? "");
    const error = await rejection(openRepository(options));
    expect(error).to.have.property("code", "REPO_KEY_MISSING");
    expect(error).to.have.property("message").that.contains(made.repositoryId);
  });

  for (const passwordKdf of ["pbkdf2-sha256", "scrypt"] as const) {
    it(`opens with a password stretched by ${passwordKdf}, and refuses another one`, async () => {
      const options = { ...storeOptions(folder()), password: new Secret("correct horse"), passwordKdf };
      expect((await makeRepository(options)).keyFile).to.equal(undefined);
      await using repository = await openRepository(options);
      const slots = await repository.listKeys(options.signal);
      expect(slots.find((slot) => slot.kind === "password")?.kdf).to.equal(passwordKdf);
      const wrong = { ...options, stateDir: folder().at("other"), password: new Secret("battery staple") };
      expect(await rejection(openRepository(wrong))).to.have.property("code", "REPO_KEY_WRONG");
    });
  }
});

function storeOptions(folder: TempFolder): StoreOptions {
  return {
    storeUrl: folder.at("store"),
    stateDir: folder.at("state"),
    password: undefined,
    encrypt: true,
    passwordKdf: "pbkdf2-sha256",
    workers: 1,
    clock: systemClock,
    observer: silentObserver,
    signal: new AbortController().signal,
  };
}
