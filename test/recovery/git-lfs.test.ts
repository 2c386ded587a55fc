/** Files whose content git has handed to git-lfs, by the real git-lfs. */
import { chmod, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { expect } from "chai";
import { type BytePath, pathFromText } from "../../src/base/paths.js";
import { lastGoodOf } from "../../src/recovery/heal-path.js";
import type { Candidate, LostFile } from "../../src/recovery/strategy.js";
import { gitHistoryStrategy } from "../../src/recovery/strategies/git-history.js";
import { git } from "../support/git.js";
import { NEVER, RecoveryRig, bytesOf, lostFile, nodeAt, sha256 } from "../support/recovery-rig.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("a file that git-lfs keeps", () => {
  const folder = useTempFolder("git-lfs");
  const notes: string[] = [];

  before(function () {
    requirePrograms(this, "git", "git-lfs");
  });
  beforeEach(() => {
    notes.length = 0;
  });

  const committed = async (content: Buffer): Promise<{ readonly file: string; readonly path: BytePath }> => {
    const repo = await folder().folder("data");
    await git(repo, "init", "-q");
    await git(repo, "lfs", "install", "--local");
    await git(repo, "lfs", "track", "*.bin");
    const file = await folder().write("data/model.bin", content);
    await git(repo, "add", "-A");
    await git(repo, "commit", "-q", "-m", "first");
    expect(await git(repo, "show", "HEAD:model.bin"), "git has a pointer").to.contain("git-lfs");
    return { file, path: pathFromText(file) };
  };
  const candidatesOf = async (lost: LostFile): Promise<Candidate[]> => {
    const search = { parameters: {}, note: (text: string): void => void notes.push(text), scratchDir: folder().path };
    const found: Candidate[] = [];
    for await (const candidate of gitHistoryStrategy().find(lost, search, NEVER)) found.push(candidate);
    return found;
  };
  const object = (content: Buffer): string => {
    const oid = sha256(content);
    return folder().at(`data/.git/lfs/objects/${oid.slice(0, 2)}/${oid.slice(2, 4)}/${oid}`);
  };

  it("comes back by its digest, from the index and from older commits", async () => {
    const [first, second] = [randomBytes(5000), randomBytes(6000)];
    const { file, path } = await committed(first);
    await writeFile(file, second);
    await git(folder().at("data"), "commit", "-q", "-a", "-m", "second");
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    const found = await candidatesOf(lost);
    expect(found.map((candidate) => candidate.sha256)).to.have.members([sha256(first), sha256(second)]);
    for (const candidate of found) expect(sha256(await bytesOf(candidate.open(NEVER)))).to.equal(candidate.sha256);
  });

  it("is healed from the object, and neither from a damaged object nor from the pointer", async () => {
    const content = randomBytes(5000);
    const { file, path } = await committed(content);
    const chain = [{ strategy: "git_history", parameters: {} }];
    await using rig = await RecoveryRig.create(folder(), { policy: { chain } });
    await rig.start();
    rig.register(path);
    rig.versions.damage(sha256(content));
    await rm(file);
    await rig.lose(path);
    expect(nodeAt(path).sha256).to.equal(sha256(content));
    await chmod(object(content), 0o644);
    await writeFile(object(content), randomBytes(5000));
    await rm(file);
    const healed = await rig.healer.recover("data", path, {}, NEVER);
    expect(healed.outcome, healed.message).to.equal("failed");
    expect(healed.candidates.map(({ verdict }) => verdict)).to.deep.equal(["refused"]);
  });

  it("is told to be only a pointer here when its object was pruned", async () => {
    const content = randomBytes(5000);
    const { file, path } = await committed(content);
    const lost = lostFile(path, lastGoodOf(nodeAt(path)));
    await rm(file);
    await rm(object(content));
    expect(await candidatesOf(lost)).to.deep.equal([]);
    expect(notes.join()).to.contain(`git lfs fetch\` may bring sha256:${sha256(content)}`);
  });
});
