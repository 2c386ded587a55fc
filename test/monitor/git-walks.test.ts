/** What git is asked of its own objects when its answer takes long. */
import { expect } from "chai";
import { deferred } from "../../src/base/concurrency.js";
import type { BytePath } from "../../src/base/paths.js";
import { GitHousekeeping } from "../../src/monitor/intent/git-housekeeping.js";
import type { MissingObjects } from "../../src/monitor/intent/git-objects.js";
import { GitWalks } from "../../src/monitor/intent/git-walks.js";
import { FakeClock } from "../support/fake-clock.js";
import { useTempFolder } from "../support/temp-folder.js";

const { signal } = new AbortController();
const STAT = { dev: 1n, ino: 1n, sizeBytes: 1, mtimeNs: 0n, ctimeNs: 0n };

describe("a lost pack of a repository that git takes long to look through", () => {
  const folder = useTempFolder();
  const pack = (): BytePath => folder().bytes(".git/objects/pack/pack-lost.pack");

  beforeEach(async () => {
    for (const name of ["HEAD", "index", "refs/heads/main", "objects/pack/pack-other.pack"])
      await folder().write(`.git/${name}`, "");
  });

  /** The verdict of one round that missed the pack at that time. */
  async function round(walks: GitWalks, clock: FakeClock, seenAtMs: number): Promise<string> {
    const housekeeping = new GitHousekeeping(walks);
    expect(housekeeping.takes(pack(), { stat: STAT }, seenAtMs)).to.equal(false);
    const asked = housekeeping.answers(clock, signal);
    await clock.advance(3000);
    const { spared, waiting } = await asked;
    if (waiting.has(pack())) return "waits";
    return spared.has(pack()) ? "spared" : "lost";
  }

  for (const [answer, verdict] of [
    [new Set<string>(), "spared"],
    [new Set(["ab"]), "lost"],
    ["unknown", "lost"],
    ["broken", "lost"],
  ] as const)
    it(`waits without holding up others, and is ${verdict} when git says ${typeof answer === "string" ? answer : `that ${String(answer.size)} objects are missing`}`, async () => {
      const clock = new FakeClock();
      const said = deferred<MissingObjects>();
      let count = 0;
      const walks = new GitWalks(() => {
        count += 1;
        return said.promise;
      });
      const seenAtMs = clock.nowMs();
      expect(await round(walks, clock, seenAtMs)).to.equal("waits");
      expect(await round(walks, clock, seenAtMs)).to.equal("waits");
      said.resolve(answer);
      expect(await round(walks, clock, seenAtMs)).to.equal(verdict);
      expect(count, "one walk").to.equal(1);
    });

  it("is not judged by a walk that began before it was missed", async () => {
    const clock = new FakeClock();
    const answers = [deferred<MissingObjects>(), deferred<MissingObjects>()];
    let count = 0;
    const walks = new GitWalks(async () => (await answers[count++]?.promise) ?? "broken");
    expect(await round(walks, clock, clock.nowMs())).to.equal("waits");
    const seenAtMs = clock.nowMs();
    expect(await round(walks, clock, seenAtMs)).to.equal("waits");
    answers[0]?.resolve(new Set());
    await clock.advance(1);
    answers[1]?.resolve(new Set(["ab"]));
    expect(await round(walks, clock, seenAtMs)).to.equal("lost");
  });
});

describe("lost packs of many repositories", () => {
  const folder = useTempFolder();
  const REPOSITORIES = Array.from({ length: 20 }, (_, index) => `repository-${String(index)}`);
  const packOf = (repository: string): BytePath => folder().bytes(`${repository}/.git/objects/pack/pack-lost.pack`);

  beforeEach(async () => {
    for (const repository of REPOSITORIES)
      for (const name of ["HEAD", "index", "refs/heads/main", "objects/pack/pack-other.pack"])
        await folder().write(`${repository}/.git/${name}`, "");
  });

  it("keep a round of verdicts waiting no longer than one, and ask git of a few at a time until all have an answer", async () => {
    const clock = new FakeClock();
    let [running, most] = [0, 0];
    const walks = new GitWalks(async () => {
      most = Math.max(most, (running += 1));
      await clock.sleep(3000, signal);
      running -= 1;
      return new Set();
    });
    const startMs = clock.monotonicMs();
    const seenAtMs = clock.nowMs();
    const roundsMs: number[] = [];
    const spared = new Set<BytePath>();
    while (spared.size < REPOSITORIES.length && roundsMs.length < 20) {
      const roundMs = clock.monotonicMs();
      const housekeeping = new GitHousekeeping(walks);
      const left = REPOSITORIES.map(packOf).filter((pack) => !spared.has(pack));
      for (const pack of left) housekeeping.takes(pack, { stat: STAT }, seenAtMs);
      let isOver = false;
      const answers = housekeeping.answers(clock, signal).finally(() => (isOver = true));
      await clock.advanceUntil(() => isOver);
      for (const pack of (await answers).spared) spared.add(pack);
      roundsMs.push(clock.monotonicMs() - roundMs);
    }
    expect(Math.max(...roundsMs)).to.be.at.most(2100);
    expect([spared.size, most]).to.deep.equal([20, 4]);
    expect(clock.monotonicMs() - startMs, "five turns of three seconds").to.be.at.most(17_000);
  });
});
