/** What git still knows of a lost file, in real repositories; and that a hostile repository cannot make us run anything. */
import { existsSync } from "node:fs";
import { chown, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { expect } from "chai";
import { pathFromBytes, pathFromText } from "../../src/base/paths.js";
import { judge } from "../../src/recovery/acceptance.js";
import type { ContentFacts } from "../../src/recovery/content-facts.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { gitHistoryStrategy } from "../../src/recovery/strategies/git-history.js";
import { lfsPointer } from "../../src/recovery/strategies/git-repository.js";
import { lineSimilarity } from "../../src/recovery/strategies/similarity.js";
import { git } from "../support/git.js";
import { NEVER, bytesOf, gitBlobId, lostFile, nodeAt, sha256 } from "../support/recovery-rig.js";
import { requirePrograms, requireRoot } from "../support/requirements.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const FIRST = "alpha\nbeta\ngamma\ndelta\n";
const SECOND = "alpha\nbeta\ngamma\ndelta two\n";
const THIRD = "alpha\nbeta\ngamma\ndelta three\n";

describe("git history", () => {
  const folder = useTempFolder("git");

  before(function () {
    requirePrograms(this, "git");
  });

  it("proves the last good content by its blob id", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await commit(file, run, SECOND);
    });
    const [candidate] = await candidatesOf(lost);
    expect(candidate).to.deep.include({ fidelity: "exact", sha256: sha256(SECOND) });
    expect(candidate?.origin).to.contain("object of the right id");
  });

  it("finds what is in the index", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await writeFile(file, SECOND);
      await run("add", ".");
    });
    expect(await contentsOf(unregistered(lost))).to.deep.include({ [SECOND]: "git index" });
  });

  it("finds what is on another branch, and under a tag", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await run("checkout", "-q", "-b", "other");
      await commit(file, run, SECOND);
      await run("checkout", "-q", "-b", "third");
      await commit(file, run, THIRD);
      await run("tag", "kept");
      await run("checkout", "-q", "master");
      await run("branch", "-q", "-D", "third");
    });
    expect(Object.keys(await contentsOf(unregistered(lost)))).to.have.members([FIRST, SECOND, THIRD]);
  });

  it("finds what is stashed, also untracked files", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(`${file}.other`, run, FIRST);
      await writeFile(file, SECOND);
      await run("stash", "push", "-q", "--include-untracked");
    });
    expect((await contentsOf(unregistered(lost)))[SECOND]).to.match(/^git stash/);
  });

  it("finds older stashes, not only the newest", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      for (const text of [SECOND, THIRD]) {
        await writeFile(file, text);
        await run("stash", "push", "-q");
      }
    });
    expect(Object.keys(await contentsOf(unregistered(lost)))).to.have.members([FIRST, SECOND, THIRD]);
  });

  it("finds a dropped stash", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await writeFile(file, SECOND);
      await run("stash", "push", "-q");
      await run("stash", "drop", "-q");
    });
    expect((await contentsOf(unregistered(lost)))[SECOND]).to.match(/^git dangling commit/);
  });

  it("finds a commit that was reset away, in the reflog and after it", async () => {
    for (const expires of [false, true]) {
      const name = `repo-${String(expires)}`;
      const { lost } = await repository(
        folder(),
        async (file, run) => {
          await commit(file, run, FIRST);
          await commit(file, run, SECOND);
          await run("reset", "-q", "--hard", "HEAD~1");
          if (expires) await run("reflog", "expire", "--expire=now", "--all");
        },
        name,
      );
      expect((await contentsOf(unregistered(lost)))[SECOND]).to.contain(expires ? "dangling commit" : "commit");
    }
  });

  it("offers what was staged and then overwritten, because nothing but likeness ties it to the file", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await writeFile(file, SECOND);
      await run("add", ".");
      await writeFile(file, THIRD);
      await run("add", ".");
      await writeFile(`${file}.unlike`, "something else entirely\n");
      await run("add", ".");
      await run("rm", "-q", "--cached", "file.txt.unlike");
    });
    const found = await candidatesOf(unregistered(lost));
    const nameless = found.filter((candidate) => candidate.offerOnly !== undefined);
    expect(await Promise.all(nameless.map(textOf))).to.deep.equal([SECOND]);
    expect(nameless[0]?.notes.join()).to.contain("75 % of its lines");
  });

  it("finds nothing more than it was allowed to look at", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      for (let count = 0; count < 5; count += 1) await commit(file, run, `version ${String(count)}\n`);
      await rm(file);
      await commit(`${file}.other`, run, "x");
    });
    const found = await candidatesOf(unregistered(lost), { max_commits: 3 });
    expect(await Promise.all(found.map(textOf))).to.deep.equal(["version 4\n", "version 3\n"]);
  });

  it("finds files with names that are no text, and names that look like options or patterns", async () => {
    const repo = await folder().folder("odd");
    await git(repo, "init", "-q");
    const names = [Buffer.from([0xff, 0xfe]), Buffer.from("--all"), Buffer.from(":(glob)*"), Buffer.from("[a]*?")];
    const paths = names.map((name) => pathFromBytes(Buffer.concat([Buffer.from(`${repo}/`), name])));
    for (const path of paths) await writeFile(Buffer.from(path, "latin1"), `text of ${String(path.length)}`);
    await git(repo, "add", "-A");
    await git(repo, "commit", "-q", "-m", "odd names");
    for (const path of paths) {
      await rm(Buffer.from(path, "latin1"));
      const found = await candidatesOf(lostFile(path));
      expect(await Promise.all(found.map(textOf)), path).to.deep.equal([`text of ${String(path.length)}`]);
    }
  });

  it("works in a linked work tree, and when the file's folder is gone", async () => {
    const { lost } = await repository(folder(), async (file, run) => {
      await mkdir(`${file}.d`);
      await commit(`${file}.d/deep.txt`, run, FIRST);
      await commit(file, run, SECOND);
      await run("worktree", "add", "-q", folder().at("linked"));
    });
    await rm(`${folder().at("linked")}/file.txt.d`, { recursive: true });
    expect(Object.keys(await contentsOf(lostFile(folder().bytes("linked/file.txt"))))).to.deep.equal([SECOND]);
    expect(Object.keys(await contentsOf(lostFile(folder().bytes("linked/file.txt.d/deep.txt"))))).to.deep.equal([
      FIRST,
    ]);
    expect(lost.path).to.contain("repo");
  });

  it("works in a submodule, whose repository lies elsewhere", async () => {
    const inner = await repository(folder(), async (file, run) => await commit(file, run, FIRST));
    const outer = await folder().folder("outer");
    await git(outer, "init", "-q");
    await git(outer, "-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.repo, "sub");
    await rm(`${outer}/sub/file.txt`);
    expect(Object.keys(await contentsOf(lostFile(folder().bytes("outer/sub/file.txt"))))).to.deep.equal([FIRST]);
  });

  it("gives the work tree's line ends where git stores others", async () => {
    const { lost, notes } = await repository(folder(), async (file, run) => {
      await run("config", "core.autocrlf", "true");
      await commit(file, run, "a\r\nb\r\n");
    });
    const found = await candidatesOf(unregistered(lost), {}, notes);
    expect(await Promise.all(found.map(textOf))).to.deep.equal(["a\r\nb\r\n"]);
    expect(found[0]?.sizeBytes).to.equal(6);
    expect(notes.join()).to.contain("autocrlf");
    await writeFile(folder().at("repo/.gitattributes"), "*.txt -text\n");
    expect(await Promise.all((await candidatesOf(unregistered(lost))).map(textOf))).to.deep.equal(["a\nb\n"]);
  });

  it("marks what a filter would change as unfit: it is refused unless its digest is the right one", async () => {
    const { lost, notes } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
    });
    await writeFile(folder().at("repo/.gitattributes"), "*.txt filter=git-crypt\n");
    const rule = {
      accept: "partial",
      maxAgeMs: undefined,
      nowMs: 0,
      damagedSha256: undefined,
      byPerson: true,
    } as const;
    const facts = (digest: string): ContentFacts => ({
      sha256: digest,
      sizeBytes: FIRST.length,
      validity: { verdict: "valid", detail: "text" },
    });
    const [candidate] = await candidatesOf(unregistered(lost), {}, notes);
    if (candidate === undefined) throw new Error("nothing was found");
    expect(notes.join()).to.contain("filter=git-crypt");
    expect(judge(unregistered(lost), candidate, undefined, rule).verdict).to.equal("refuse");
    expect(judge(unregistered(lost), candidate, facts(sha256(FIRST)), rule).verdict).to.equal("refuse");
    expect(judge(lost, candidate, facts(sha256(FIRST)), rule).verdict).to.equal("identical");
  });

  it("takes an LFS object by its digest, and says so when there is only the pointer", async () => {
    const content = Buffer.from("large content");
    const oid = sha256(content);
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${String(content.length)}\n`;
    const { lost, notes, repo } = await repository(folder(), async (file, run) => {
      await writeFile(`${file}.attributes`, "");
      await commit(file, run, pointer);
    });
    expect(await candidatesOf(unregistered(lost), {}, notes)).to.deep.equal([]);
    expect(notes.join()).to.contain("LFS pointer");
    const store = `${repo}/.git/lfs/objects/${oid.slice(0, 2)}/${oid.slice(2, 4)}`;
    await mkdir(store, { recursive: true });
    await writeFile(`${store}/${oid}`, content);
    const [candidate] = await candidatesOf(unregistered(lost));
    expect(candidate?.sha256).to.equal(oid);
    expect(lfsPointer(Buffer.from("something else"))).to.equal(undefined);
  });

  it("runs nothing that a hostile repository names", async () => {
    const trap = folder().at("trap.sh");
    const sprung = folder().at("sprung");
    await folder().write("trap.sh", `#!/bin/sh\ntouch '${sprung}'\ncat\n`, 0o755);
    const { lost } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
      await commit(file, run, SECOND);
      await writeFile(`${file}.x`, "*  filter=trap diff=trap\n");
      const settings: [string, string][] = [
        ...["core.fsmonitor", "core.pager", "core.sshCommand", "core.askPass", "core.editor", "gpg.program"].map(
          (name): [string, string] => [name, trap],
        ),
        ...[
          "filter.trap.smudge",
          "filter.trap.clean",
          "filter.trap.process",
          "diff.trap.textconv",
          "diff.external",
        ].map((name): [string, string] => [name, trap]),
        ["core.hooksPath", folder().path],
        ["alias.cat-file", `!${trap}`],
        ["log.showSignature", "true"],
        ["remote.origin.url", `ext::${trap}`],
        ["remote.origin.promisor", "true"],
        ["protocol.ext.allow", "always"],
        ["extensions.partialClone", "origin"],
        ["core.repositoryFormatVersion", "1"],
        ["uploadpack.packObjectsHook", trap],
      ];
      for (const [name, value] of settings) await run("config", name, value);
    });
    await writeFile(`${folder().at("repo")}/.gitattributes`, "* filter=trap diff=trap\n");
    const missing = { ...lost, lastGood: { ...lastGoodOfLost(lost), gitBlobId: "1234567890".repeat(4) } };
    await candidatesOf(missing);
    expect(Object.keys(await contentsOf(unregistered(lost)))).to.include(SECOND);
    expect(existsSync(sprung)).to.equal(false);
  });

  it("reads another user's repository as that user", async function () {
    requireRoot(this);
    const { lost, repo } = await repository(folder(), async (file, run) => {
      await commit(file, run, FIRST);
    });
    await chownAll(folder().path, repo, 54321);
    const found = await candidatesOf(unregistered(lost));
    expect(found.map((candidate) => candidate.ownerUid)).to.deep.equal([54321]);
    expect(await Promise.all(found.map(textOf))).to.deep.equal([FIRST]);
  });

  it("measures likeness by lines", () => {
    expect(lineSimilarity(Buffer.from("a\nb\n"), Buffer.from("b\na\nc\n"))).to.equal(1);
    expect(lineSimilarity(Buffer.from("a\na\n"), Buffer.from("a\nb\n"))).to.equal(0.5);
    expect(lineSimilarity(Buffer.from("\n\n"), Buffer.from("a\n"))).to.equal(0);
  });

  it("computes blob ids as git does", async () => {
    const repo = await folder().folder("ids");
    await git(repo, "init", "-q");
    await folder().write("ids/x", FIRST);
    expect(await git(repo, "hash-object", "x")).to.equal(gitBlobId(await readFile(folder().at("ids/x"))));
  });
});

type Run = (...args: string[]) => Promise<string>;

/** A repository at `repo/` in which `file.txt` lived; it is lost at the end, and was registered as it then was. */
async function repository(
  folder: TempFolder,
  build: (file: string, run: Run) => Promise<void>,
  name = "repo",
): Promise<{ readonly lost: LostFile; readonly notes: string[]; readonly repo: string }> {
  const repo = await folder.folder(name);
  await git(repo, "init", "-q", "-b", "master");
  const file = `${repo}/file.txt`;
  await build(file, (...args) => git(repo, ...args));
  const path = pathFromText(file);
  const lastGood = existsSync(file) ? lastGoodOf(nodeAt(path)) : undefined;
  await rm(file, { force: true });
  return { lost: lostFile(path, lastGood), notes: [], repo };
}

async function commit(file: string, run: Run, text: string): Promise<void> {
  await writeFile(file, text);
  await run("add", "-A");
  await run("commit", "-q", "-m", "a version");
}

function unregistered(lost: LostFile): LostFile {
  return { ...lost, lastGood: undefined };
}

function lastGoodOfLost(lost: LostFile): NonNullable<LostFile["lastGood"]> {
  if (lost.lastGood === undefined) throw new Error("it was registered");
  return lost.lastGood;
}

async function candidatesOf(
  lost: LostFile,
  parameters: Readonly<Record<string, unknown>> = {},
  notes: string[] = [],
): Promise<Candidate[]> {
  const search = { parameters, note: (text: string) => notes.push(text), scratchDir: "/nonexistent" };
  const found: Candidate[] = [];
  for await (const candidate of gitHistoryStrategy().find(lost, search, NEVER)) found.push(candidate);
  return found;
}

/** Contents found, with where they are from. */
async function contentsOf(lost: LostFile): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  for (const candidate of await candidatesOf(lost))
    contents[await textOf(candidate)] = candidate.origin.replace(/ in \/.*$/, "");
  return contents;
}

async function textOf(candidate: Candidate): Promise<string> {
  return (await bytesOf(candidate.open(NEVER))).toString("utf8");
}

async function chownAll(above: string, repo: string, uid: number): Promise<void> {
  const { readdir, chmod } = await import("node:fs/promises");
  await chmod(above, 0o755);
  for (const name of ["", ...(await readdir(repo, { recursive: true }))]) await chown(`${repo}/${name}`, uid, uid);
}
