/** Ransomware, simulated, against the built program: what it encrypts is held in one incident and comes back by one word. */
import { createCipheriv, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect } from "chai";
import { Sandbox, until, versionsOf } from "../support/program.js";

const FILES = 30;

/** Texts, JSON documents and archives in turn. */
function contentOf(index: number): Buffer {
  const text = `Page ${String(index)}\n${"All work and no play makes a dull day, as everybody knows.\n".repeat(100)}`;
  if (index % 3 === 0) return Buffer.from(JSON.stringify({ page: index, text }, undefined, 2));
  return index % 3 === 1 ? gzipSync(text) : Buffer.from(text);
}

function nameOf(index: number): string {
  return `file-${String(index)}${[".json", ".gz", ".txt"][index % 3] ?? ""}`;
}

function encrypted(content: Buffer): Buffer {
  return createCipheriv("aes-256-ctr", randomBytes(32), randomBytes(16)).update(content);
}

describe("an attack on a protected folder", () => {
  it("is one incident that freezes retention; one approval brings every file back", async () => {
    await using sandbox = await Sandbox.create();
    const paths = Array.from({ length: FILES }, (_none, index) => join(sandbox.data, nameOf(index)));
    const contents = paths.map((_path, index) => contentOf(index));
    for (const [index, path] of paths.entries()) await writeFile(path, contents[index] ?? "");
    await sandbox.start();
    await sandbox.run("create", "--type", "full");
    for (const [index, path] of paths.entries()) await writeFile(path, encrypted(contents[index] ?? Buffer.alloc(0)));

    await until("every file is in incidents", 30_000, async () => {
      const incidents = await sandbox.incidents();
      return incidents.reduce((sum, one) => sum + one.paths_total, 0) >= FILES;
    });
    const mass = (await sandbox.incidents()).filter(({ kind }) => kind === "mass");
    expect(mass).to.have.length(1);
    expect(mass[0]).to.include({ state: "waiting" });
    expect(mass[0]?.detail).to.match(/encrypted/);

    const shown = await sandbox.run("incidents", "show", mass[0]?.id ?? "");
    expect(shown.stdout).to.match(/file-\d+\.txt {3}last good version 20/);

    const collection = await sandbox.run("gc");
    expect(collection.exitCode).not.to.equal(0);
    expect(collection.stderr)
      .to.contain("nothing is removed")
      .and.to.contain(mass[0]?.id ?? "");

    const approved = await sandbox.run("incidents", "approve", mass[0]?.id ?? "");
    expect(approved.exitCode, approved.stderr).to.equal(0);
    await until("every file is back", 30_000, async () => {
      const now = await Promise.all(paths.map((path) => readFile(path)));
      return now.every((content, index) => contents[index]?.equals(content) === true);
    });
    await until("the good version is the newest stored one", 15_000, async () => {
      const found = versionsOf(await sandbox.run("versions", paths[2] ?? "", "--json"));
      return found[0]?.sha256 === found.at(-1)?.sha256;
    });
    await until("the incident is closed", 10_000, async () =>
      (await sandbox.incidents()).every(({ state }) => !["waiting", "healing", "open"].includes(state)),
    );
  });

  it("leaves what is found encrypted as it is when a person denies", async () => {
    await using sandbox = await Sandbox.create();
    const paths = Array.from({ length: 5 }, (_none, index) => join(sandbox.data, `page-${String(index)}.txt`));
    for (const path of paths) await writeFile(path, contentOf(2));
    await sandbox.start();
    for (const path of paths) await writeFile(path, encrypted(contentOf(2)));
    await until("the incident holds all", 30_000, async () =>
      (await sandbox.incidents()).some(({ kind, paths_total: total }) => kind === "mass" && total === paths.length),
    );
    const now = await Promise.all(paths.map((path) => readFile(path)));
    const [incident] = (await sandbox.incidents()).filter(({ kind }) => kind === "mass");
    const denied = await sandbox.run("incidents", "deny", incident?.id ?? "");
    expect(denied.exitCode, denied.stderr).to.equal(0);
    for (const path of paths) await sandbox.settled(path, 2);
    expect(await Promise.all(paths.map((path) => readFile(path)))).to.deep.equal(now);
  });
});
