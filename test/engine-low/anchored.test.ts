/** Anchored folders: nothing is ever written outside, whatever an attacker swaps while we work. */
import { closeSync, constants, existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { expect } from "chai";
import { type AnchoredFolder, openAnchored } from "../../src/base/anchored.js";
import { pathFromBytes } from "../../src/base/paths.js";
import { thrownCode } from "../support/engine-keys.js";
import { useTempFolder } from "../support/temp-folder.js";

const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;

/** Swaps root/a/b between a folder and a link that leads outside, as fast as it can. */
const ATTACKER = `
  const { renameSync } = require("node:fs");
  const { workerData } = require("node:worker_threads");
  const { inside, parked, link } = workerData;
  for (;;) {
    renameSync(inside, parked);
    renameSync(link, inside);
    renameSync(inside, link);
    renameSync(parked, inside);
  }
`;

describe("anchored folder", () => {
  const folder = useTempFolder("anchored");

  function put(target: AnchoredFolder, name: string, content: string): void {
    const fd = target.openFile(name, CREATE, 0o600);
    try {
      writeSync(fd, content);
    } finally {
      closeSync(fd);
    }
  }

  it("makes missing folders, writes, lists, renames and removes below the root", async () => {
    const root = folder().bytes();
    await using target = openAnchored(root, folder().bytes("a", "b"), { makeMode: 0o700 });
    put(target, "one", "1");
    target.symlink("one", "link");
    target.mkdir("sub", 0o700);
    await using sub = target.child("sub");
    target.link("one", sub, "two");
    expect(thrownCode(() => target.link("one", sub, "two"))).to.equal("EEXIST");
    target.rename("one", sub, "three");
    expect(sub.names().sort()).to.deep.equal(["three", "two"]);
    expect(target.readlink("link")).to.equal("one");
    expect(target.lstat("one")).to.equal(undefined);
    expect(target.lstat("link")?.isSymbolicLink()).to.equal(true);
    await target.sync();
    sub.unlink("two");
    sub.unlink("three");
    target.rmdir("sub");
    expect(readdirSync(folder().at("a", "b"))).to.deep.equal(["link"]);
  });

  it("refuses a link where a folder should be, and a file below it", async () => {
    mkdirSync(folder().at("outside"));
    mkdirSync(folder().at("root"));
    symlinkSync(folder().at("outside"), folder().at("root", "link"));
    const root = folder().bytes("root");
    expect(thrownCode(() => openAnchored(root, folder().bytes("root", "link")))).to.equal("TARGET_UNSAFE");
    expect(
      thrownCode(() => openAnchored(root, folder().bytes("root", "link", "deeper"), { makeMode: 0o700 })),
    ).to.equal("TARGET_UNSAFE");
    await folder().write("root/file", "x");
    expect(thrownCode(() => openAnchored(root, folder().bytes("root", "file")))).to.equal("TARGET_UNSAFE");
    expect(thrownCode(() => openAnchored(root, folder().bytes("elsewhere")))).to.equal("TARGET_UNSAFE");
    expect(thrownCode(() => openAnchored(root, folder().bytes("root", "none")))).to.equal("ENOENT");
    await using target = openAnchored(root, root);
    expect(thrownCode(() => target.openFile("link", constants.O_WRONLY))).to.equal("TARGET_UNSAFE");
    expect(readdirSync(folder().at("outside"))).to.deep.equal([]);
  });

  it("takes single names only", async () => {
    await using target = openAnchored(folder().bytes(), folder().bytes());
    for (const name of ["", ".", "..", "a/b", "/etc", "a\0b"]) {
      expect(
        thrownCode(() => target.at(name)),
        JSON.stringify(name),
      ).to.equal("TARGET_UNSAFE");
    }
  });

  it("follows the links of the configured root itself, and works with names of any bytes", async () => {
    mkdirSync(folder().at("real"));
    symlinkSync(folder().at("real"), folder().at("root"));
    const odd = pathFromBytes(Buffer.concat([Buffer.from(folder().at("root")), Buffer.from("/\xff\xfe", "latin1")]));
    await using target = openAnchored(folder().bytes("root"), odd, { makeMode: 0o700 });
    put(target, "\xe9", "x");
    expect(target.names()).to.deep.equal(["\xe9"]);
    expect(target.verify()).to.equal(true);
    expect(readdirSync(folder().at("real"), "latin1")).to.deep.equal(["\xff\xfe"]);
  });

  it("knows when its path leads elsewhere by now", async () => {
    mkdirSync(folder().at("root"));
    await using target = openAnchored(folder().bytes("root"), folder().bytes("root", "a", "b"), { makeMode: 0o700 });
    expect(target.verify()).to.equal(true);
    renameSync(folder().at("root", "a"), folder().at("root", "away"));
    expect(target.verify()).to.equal(false);
    symlinkSync("away", folder().at("root", "a"));
    expect(target.verify()).to.equal(false);
    put(target, "still", "in the same folder");
    expect(existsSync(folder().at("root", "away", "b", "still"))).to.equal(true);
  });

  it("is closed once and then refuses to be used", async () => {
    const target = openAnchored(folder().bytes(), folder().bytes());
    await target[Symbol.asyncDispose]();
    await target[Symbol.asyncDispose]();
    expect(thrownCode(() => target.names())).to.equal("INTERNAL");
  });

  it("writes nothing outside while an attacker swaps a folder for a link for two seconds", async () => {
    for (const name of ["root", "root/a", "root/a/b", "outside"]) mkdirSync(folder().at(name));
    symlinkSync(folder().at("outside"), folder().at("link"));
    const workerData = {
      inside: folder().at("root", "a", "b"),
      parked: folder().at("parked"),
      link: folder().at("link"),
    };
    const attacker = new Worker(ATTACKER, { eval: true, workerData });
    const outcomes = new Map<string, number>();
    try {
      await new Promise((resolve) => attacker.once("online", resolve));
      const end = performance.now() + 2000;
      for (let index = 0; performance.now() < end; index += 1) {
        const outcome = thrownCode(() => {
          const target = openAnchored(folder().bytes("root"), folder().bytes("root", "a", "b"));
          try {
            put(target, `f${index}`, "precious");
          } finally {
            target.close();
          }
        });
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        if (index % 100 === 0) await new Promise(setImmediate);
      }
    } finally {
      await attacker.terminate();
    }
    expect(readdirSync(folder().at("outside"))).to.deep.equal([]);
    expect([...outcomes.keys()]).to.include("none");
    expect([...outcomes.keys()].filter((code) => !["none", "TARGET_UNSAFE", "ENOENT"].includes(code))).to.deep.equal(
      [],
    );
    expect(outcomes.get("TARGET_UNSAFE") ?? 0).to.be.greaterThan(0);
  });
});
