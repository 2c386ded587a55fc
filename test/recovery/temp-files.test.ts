/** What editors leave behind, made by the real vim where it is installed, and the Trash. */
import { existsSync } from "node:fs";
import { chown, mkdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { expect } from "chai";
import fc from "fast-check";
import { pathFromText } from "../../src/base/paths.js";
import { runProgram } from "../../src/base/spawn.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { tempFilesStrategy } from "../../src/recovery/strategies/temp-files.js";
import { readVimSwap } from "../../src/recovery/strategies/vim-swap.js";
import { MemoryVersions, NEVER, bytesOf, lostFile, nodeAt } from "../support/recovery-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";
import { killVimAfter } from "../support/vim.js";

describe("vim's swap files", function () {
  this.timeout(60_000);

  const folder = useTempFolder("vim");

  before(function () {
    requirePrograms(this, "vim");
  });

  it("gives the unsaved text of a vim that was killed", async () => {
    const file = await folder().write("data/a.txt", "one\ntwo\n");
    await killVimAfter(file, { keys: "oa new line, never saved\\<Esc>", until: "never saved" });
    const { lost, versions } = await loseFile(file);
    const found = await candidatesOf(lost, versions, folder());
    expect(found.map((candidate) => candidate.fidelity)).to.deep.equal(["newer"]);
    expect(await textOf(found[0])).to.equal("one\na new line, never saved\ntwo\n");
    expect(found[0]?.notes.join()).to.contain("with unsaved changes");
  });

  it("reads what vim -r reads, for long files of several blocks, long lines, tabs and odd bytes", async () => {
    const lines = Array.from({ length: 3000 }, (_, index) => `line ${String(index)}\t${"é".repeat(index % 90)}`);
    lines[1234] = "long ".repeat(5000);
    lines[77] = "";
    const file = await folder().write("data/big.txt", `${lines.join("\n")}\n`);
    await killVimAfter(file, {
      keys: "Goappended\\<Esc>:call setline(1500, 'changed in the middle')\\<CR>",
      until: "changed in the middle",
      command: "silent preserve",
    });
    const expected = await vimRecovers(file);
    const { lost, versions } = await loseFile(file);
    const [candidate] = await candidatesOf(lost, versions, folder());
    expect(candidate?.fidelity).to.equal("newer");
    expect(await textOf(candidate)).to.equal(expected);
    expect(expected).to.contain("changed in the middle").and.to.contain("appended");
  });

  it("takes the lines that vim left to the original from the version that vim had loaded", async () => {
    const lines = Array.from({ length: 5000 }, (_, index) => `line number ${String(index)} of a longer file`);
    const file = await folder().write("data/long.txt", `${lines.join("\n")}\n`);
    await killVimAfter(file, { keys: "oinserted\\<Esc>", until: "inserted" });
    const { lost, versions } = await loseFile(file);
    const alone = await candidatesOf(lost, new MemoryVersions(), folder());
    expect(alone.map((candidate) => candidate.fidelity)).to.deep.equal(["partial"]);
    const [candidate] = await candidatesOf(lost, versions, folder());
    expect(candidate?.fidelity).to.equal("newer");
    lines.splice(1, 0, "inserted");
    expect(await textOf(candidate)).to.equal(`${lines.join("\n")}\n`);
  });

  it("keeps DOS line ends, and finds swap files in vim's other folders", async () => {
    const file = await folder().write("data/dos.txt", "one\r\ntwo\r\n");
    const swaps = await folder().folder("home/.vim/swap");
    await killVimAfter(file, { keys: "othree\\<Esc>", until: "three", swapFolder: `${swaps}//` });
    expect(existsSync(`${swaps}/${file.replaceAll("/", "%")}.swp`)).to.equal(true);
    const { lost, versions } = await loseFile(file);
    const [candidate] = await candidatesOf(lost, versions, folder());
    expect(await textOf(candidate)).to.equal("one\r\nthree\r\ntwo\r\n");
  });

  it("does not take another file's swap", async () => {
    const other = await folder().write("elsewhere/a.txt", "other\n");
    const swaps = await folder().folder("home/tmp");
    await killVimAfter(other, { keys: "osecret\\<Esc>", until: "secret", swapFolder: swaps });
    expect(existsSync(`${swaps}/a.txt.swp`)).to.equal(true);
    const { lost, versions } = await loseFile(await folder().write("data/a.txt", "mine\n"));
    expect(await candidatesOf(lost, versions, folder())).to.deep.equal([]);
  });
});

describe("the reader of vim's swap files", () => {
  const folder = useTempFolder("vim-fuzz");

  before(function () {
    requirePrograms(this, "vim");
  });

  it("never fails on hostile bytes", async () => {
    const file = await folder().write("data/a.txt", "some text\n".repeat(500));
    await killVimAfter(file, { keys: "oxyz\\<Esc>", until: "xyz", command: "silent preserve" });
    const swap = await readFile(`${folder().path}/data/.a.txt.swp`);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(swap.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 40 }),
        fc.nat(swap.length),
        (edits, cut) => {
          const bytes = Buffer.from(swap.subarray(0, cut === 0 ? swap.length : cut));
          for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
          const read = readVimSwap(bytes, undefined);
          expect(["no_swap", "encrypted", "text"]).to.include(read.kind);
        },
      ),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 5000 }), (bytes) => void readVimSwap(Buffer.from(bytes), undefined)),
    );
  });
});

describe("temporary files", () => {
  const folder = useTempFolder("temp-files");

  it("finds the copies that editors leave beside the file, and knows which are older", async () => {
    const file = await folder().write("data/a.txt", "current");
    const names = ["a.txt~", "#a.txt#", "a.txt.save", "a.txt.save.1", "a.txt.~3~", "a.txt.bak"];
    for (const name of names) await folder().write(`data/${name}`, name);
    await folder().write("data/b.txt~", "another file's");
    const { lost, versions } = await loseFile(file);
    const found = await candidatesOf(lost, versions, folder());
    const fidelities: Record<string, string> = {};
    for (const candidate of found) fidelities[await textOf(candidate)] = candidate.fidelity;
    expect(fidelities).to.deep.equal({
      "a.txt~": "older",
      "#a.txt#": "newer",
      "a.txt.save": "newer",
      "a.txt.save.1": "newer",
      "a.txt.~3~": "older",
      "a.txt.bak": "older",
    });
  });

  it("finds VS Code's saved copies of the path, newest first", async () => {
    const file = await folder().write("data/sp ace.txt", "x");
    const history = await folder().folder("home/.config/Code/User/History/-1a2b");
    await folder().write("home/.config/Code/User/History/other/entries.json", "not JSON");
    const entries = [
      { id: "aaaa.txt", timestamp: 1_000_000 },
      { id: "bbbb.txt", timestamp: 2_000_000 },
      { id: "../../../../etc/passwd", timestamp: 3_000_000 },
    ];
    const resource = `file://${file.replace(" ", "%20")}`;
    await writeFile(`${history}/entries.json`, JSON.stringify({ version: 1, resource, entries }));
    for (const name of ["aaaa.txt", "bbbb.txt"]) await writeFile(`${history}/${name}`, name);
    const { lost, versions } = await loseFile(file);
    const found = await candidatesOf(lost, versions, folder());
    expect(await Promise.all(found.map(textOf))).to.deep.equal(["bbbb.txt", "aaaa.txt"]);
    expect(found[0]?.modifiedAtMs).to.equal(2_000_000);
  });

  it("only offers what lies in the Trash, also inside a trashed folder", async () => {
    const trash = await folder().folder("home/.local/share/Trash");
    await mkdir(`${trash}/files`);
    await mkdir(`${trash}/info`);
    const file = await folder().write("data/dir/tr äsh.txt", "trashed");
    const { lost, versions } = await loseFile(file, false);
    await rename(folder().at("data/dir"), `${trash}/files/dir.2`);
    const encoded = encodeURI(folder().at("data/dir"));
    await writeFile(
      `${trash}/info/dir.2.trashinfo`,
      `[Trash Info]\nPath=${encoded}\nDeletionDate=2026-01-02T03:04:05\n`,
    );
    const [candidate] = await candidatesOf(lost, versions, folder());
    expect(candidate?.offerOnly).to.contain("Trash");
    expect(candidate?.notes.join()).to.contain("2026-01-02T03:04:05");
    expect(await textOf(candidate)).to.equal("trashed");
  });

  it("says whose the traces are, so that a planted one can be told", async function () {
    requireRoot(this);
    const file = await folder().write("data/a.txt", "x");
    await folder().write("data/#a.txt#", "planted");
    await chown(folder().at("data/#a.txt#"), 54321, 54321);
    const { lost, versions } = await loseFile(file);
    expect((await candidatesOf(lost, versions, folder())).map((candidate) => candidate.ownerUid)).to.deep.equal([
      54321,
    ]);
  });

  it("does not follow links and does not hang at a FIFO", async () => {
    const file = await folder().write("data/a.txt", "x");
    await symlink("/etc/passwd", folder().at("data/a.txt~"));
    await runProgram(["mkfifo", folder().at("data/#a.txt#")], { timeoutMs: 5000, signal: NEVER });
    const { lost, versions } = await loseFile(file);
    expect(await candidatesOf(lost, versions, folder())).to.deep.equal([]);
  });
});

/** What vim itself recovers from a killed vim's swap file. */
async function vimRecovers(file: string): Promise<string> {
  const out = `${file}.recovered`;
  const args = ["vim", "-u", "NONE", "-N", "-es", "-c", `recover ${file}`, "-c", `w! ${out}`, "-c", "q!"];
  await runProgram(args, { timeoutMs: 20_000, signal: NEVER, env: { TERM: "xterm" } });
  const text = await readFile(out, "utf8");
  await rm(out);
  return text;
}

async function loseFile(
  file: string,
  remove = true,
): Promise<{ readonly lost: LostFile; readonly versions: MemoryVersions }> {
  const past = (await stat(file)).mtimeMs;
  const path = pathFromText(file);
  const versions = new MemoryVersions();
  versions.keep(path, past);
  const lost = lostFile(path, lastGoodOf(nodeAt(path)));
  if (remove) await rm(file);
  return { lost, versions };
}

async function candidatesOf(lost: LostFile, versions: MemoryVersions, folder: TempFolder): Promise<Candidate[]> {
  const search = { parameters: { homes: [folder.at("home")] }, note: () => undefined, scratchDir: folder.path };
  const found: Candidate[] = [];
  for await (const candidate of tempFilesStrategy(versions).find(lost, search, NEVER)) found.push(candidate);
  return found;
}

async function textOf(candidate: Candidate | undefined): Promise<string> {
  if (candidate === undefined) throw new Error("nothing was found");
  return (await bytesOf(candidate.open(NEVER))).toString("utf8");
}
