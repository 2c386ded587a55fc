/** Durable writes: the old or the new content, never half of one, also when the writer is killed on the way. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir, stat, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { STAGING_PREFIX, syncFolder, unlinkIfThere, writeFileDurably } from "../../src/base/atomic-file.js";
import { errnoOf } from "../../src/base/errors.js";
import { BUILT_ROOT } from "../support/project.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a durable write", () => {
  const folder = useTempFolder("atomic");

  it("replaces the content, sets the mode, and leaves nothing beside", async () => {
    const path = await folder().write("state", "old", 0o644);
    await writeFileDurably(path, Buffer.from("new"));
    expect(await readFile(path, "utf8")).to.equal("new");
    expect((await stat(path)).mode & 0o777).to.equal(0o600);
    await writeFileDurably(path, "newer", { mode: 0o640 });
    expect((await stat(path)).mode & 0o777).to.equal(0o640);
    expect(await readdir(folder().path)).to.deep.equal(["state"]);
  });

  it("takes names as long as the file system allows, in any script", async () => {
    for (const name of ["a".repeat(255), "日".repeat(85)]) {
      await writeFileDurably(folder().at(name), "x");
      expect(await readFile(folder().at(name), "utf8")).to.equal("x");
    }
  });

  it("overwrites nothing when it is exclusive, whoever comes at the same time", async () => {
    const path = folder().at("lease");
    const writers = Array.from({ length: 20 }, async (_, index) => {
      await writeFileDurably(path, String(index), { exclusive: true });
      return index;
    });
    const outcomes = await Promise.allSettled(writers);
    const won = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    expect(won).to.have.lengthOf(1);
    expect(await readFile(path, "utf8")).to.equal(String(won[0]));
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") expect(errnoOf(outcome.reason)).to.equal("EEXIST");
    }
    expect(await readdir(folder().path)).to.deep.equal(["lease"]);
  });

  it("leaves one whole content when many write at once", async () => {
    const path = folder().at("state");
    const contents = Array.from({ length: 20 }, (_, index) => String(index % 10).repeat(10_000));
    await Promise.all(contents.map((content) => writeFileDurably(path, content)));
    expect(contents).to.include(await readFile(path, "utf8"));
    expect(await readdir(folder().path)).to.deep.equal(["state"]);
  });

  it("cleans up and tells when it fails", async () => {
    await folder().write("taken/file", "x");
    expect(errnoOf(await rejection(writeFileDurably(folder().at("taken"), "x")))).to.be.oneOf([
      "EISDIR",
      "ENOTEMPTY",
      "EEXIST",
    ]);
    expect(errnoOf(await rejection(writeFileDurably(folder().at("no", "such"), "x")))).to.equal("ENOENT");
    expect(await readdir(folder().path)).to.deep.equal(["taken"]);
  });

  it("survives the death of the writer at any moment with whole content", async () => {
    const path = folder().at("state");
    const size = 300_000;
    await writeFile(path, "a".repeat(size));
    const program = `
      import { writeFileDurably } from ${JSON.stringify(`file://${BUILT_ROOT}/src/base/atomic-file.js`)};
      for (let n = 0; ; n += 1) {
        await writeFileDurably(${JSON.stringify(path)}, String.fromCharCode(97 + (n % 26)).repeat(${String(size)}));
        if (n === 0) process.stdout.write("writing\\n");
      }`;
    for (let delay = 0; delay < 10; delay += 1) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(createInterface(child.stdout), "line");
      for (let reads = 0; reads < delay * 3; reads += 1) await stat(path); // a different moment each time
      child.kill("SIGKILL");
      await once(child, "close");
      const content = await readFile(path, "utf8");
      expect(content).to.equal((content[0] ?? "").repeat(size));
    }
    const leftovers = (await readdir(folder().path)).filter((name) => name !== "state");
    for (const name of leftovers) expect(name.startsWith(STAGING_PREFIX), name).to.equal(true);
  });
});

describe("small helpers for files", () => {
  const folder = useTempFolder("files");

  it("remove a file and say whether it was there", async () => {
    const path = await folder().write("a", "x");
    expect([await unlinkIfThere(path), await unlinkIfThere(path)]).to.deep.equal([true, false]);
    expect(errnoOf(await rejection(unlinkIfThere(folder().path)))).to.be.oneOf(["EISDIR", "EPERM"]);
  });

  it("make the names of a folder durable, and refuse what is none", async () => {
    await syncFolder(folder().path);
    expect(errnoOf(await rejection(syncFolder(await folder().write("a", "x"))))).to.equal("ENOTDIR");
  });
});
