/** The walk through a chain: what is asked when, what is taken, what stays an offer. */
import { readdirSync } from "node:fs";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { silentObserver } from "../../src/base/observe.js";
import type { BytePath } from "../../src/base/paths.js";
import {
  type Attempt,
  type ChainOutcome,
  type ChainRequest,
  type Choice,
  RecoveryChain,
  withImplied,
} from "../../src/recovery/chain.js";
import type { Candidate, LostFile, RecoveryStrategy } from "../../src/recovery/strategy.js";
import { NEVER, NotingWatch, bytesOf, lostFile, sha256 } from "../support/recovery-rig.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

describe("the recovery chain", () => {
  const folder = useTempFolder("chain");

  it("takes identical content from a later step over acceptable content from an earlier one", async () => {
    const outcome = await walk([offers("a", [{ text: "newer" }]), offers("b", [{ text: "GOOD" }])]);
    expect(outcome.taken?.candidate.strategy).to.equal("b");
    expect(verdicts(outcome)).to.deep.equal({ "a newer": "offered", "b GOOD": "taken" });
  });

  it("takes the first acceptable step when nothing is identical", async () => {
    const outcome = await walk([offers("a", [{ text: "x" }]), offers("b", [{ text: "y" }])]);
    expect(outcome.taken?.candidate.origin).to.equal("x");
  });

  it("secures perishable candidates before anything else is asked, once, and judges them in their order", async () => {
    const log: string[] = [];
    const vanishing = offers("fd", [{ text: "held" }], "perishable", log);
    const outcome = await walk([offers("a", [{ text: "x" }], "reads", log), vanishing]);
    expect(log).to.deep.equal(["ask fd", "read held", "ask a", "read x"]);
    expect(outcome.taken?.candidate.origin).to.equal("x");
  });

  it("runs programs only when nothing before was acceptable", async () => {
    const log: string[] = [];
    await walk([offers("a", [{ text: "x" }]), offers("run", [{ text: "made" }], "runs", log)]);
    expect(log).to.deep.equal([]);
    const outcome = await walk([offers("a", []), offers("run", [{ text: "made" }], "runs", log)]);
    expect(outcome.taken?.candidate.strategy).to.equal("run");
  });

  it("goes on to the next candidate when one cannot be proven, and when a strategy fails", async () => {
    const failing: RecoveryStrategy = {
      id: "broken",
      effort: "reads",
      // eslint-disable-next-line require-yield, @typescript-eslint/require-await -- it fails before it finds anything
      async *find() {
        throw new Error("no git here");
      },
    };
    const tried: string[] = [];
    const attempt = (choice: Choice): Attempt => {
      tried.push(choice.candidate.strategy);
      return choice.candidate.strategy === "a" ? { done: false, why: "it read back differently" } : { done: true };
    };
    const outcome = await walk(
      [failing, offers("a", [{ text: "GOOD" }]), offers("b", [{ text: "GOOD" }])],
      {},
      attempt,
    );
    expect(tried).to.deep.equal(["a", "b"]);
    expect(outcome.notes).to.deep.equal(["broken: no git here"]);
    expect(outcome.judged[0]).to.deep.include({ verdict: "refused", why: "it read back differently" });
  });

  it("does not take a failure to write for a failure of the strategy", async () => {
    const walking = walk([offers("a", [{ text: "GOOD" }]), offers("b", [{ text: "GOOD" }])], {}, () => {
      throw new Error("no space");
    });
    expect(await rejection(walking)).to.have.property("message", "no space");
  });

  it("does not even read what cannot be accepted", async () => {
    const log: string[] = [];
    const outcome = await walk([offers("a", [{ text: "x", about: { fidelity: "older" } }], "reads", log)]);
    expect(log).to.deep.equal(["ask a"]);
    expect(outcome.judged[0]?.verdict).to.equal("offered");
  });

  it("reads what could be the last good content by its size, however old it seems", async () => {
    const about = { fidelity: "older" as const, sizeBytes: 4 };
    const outcome = await walk([
      offers("a", [
        { text: "BAD!", about },
        { text: "GOOD", about },
      ]),
    ]);
    expect(verdicts(outcome)).to.deep.equal({ "a BAD!": "offered", "a GOOD": "taken" });
  });

  it("shows all and takes nothing when it only explains", async () => {
    let attempts = 0;
    const outcome = await walk(
      [offers("a", [{ text: "GOOD" }]), offers("b", [{ text: "y" }])],
      { explain: true },
      () => {
        attempts += 1;
        return { done: true };
      },
    );
    expect(attempts).to.equal(0);
    expect(verdicts(outcome)).to.deep.equal({ "a GOOD": "taken", "b y": "offered" });
  });

  it("says of every strategy what came of asking it", async () => {
    const outcome = await walk([offers("a", []), offers("b", [{ text: "GOOD" }]), offers("c", [{ text: "z" }])]);
    expect(outcome.searched).to.deep.equal([
      { strategy: "a", outcome: "nothing", found: 0 },
      { strategy: "b", outcome: "taken", found: 1 },
      { strategy: "c", outcome: "skipped", found: 0 },
    ]);
    expect(outcome.judged[0]?.score).to.deep.include({ identity: 100 });
  });

  it("does not promise in an explanation what could not be read or is not what it says", async () => {
    const gone: RecoveryStrategy = offers("a", [{ text: "lie", about: { sha256: sha256("GOOD") } }]);
    const outcome = await walk([gone, offers("b", [{ text: "GOOD", about: { sha256: sha256("GOOD") } }])], {
      explain: true,
    });
    expect(verdicts(outcome)).to.deep.equal({ "a lie": "refused", "b GOOD": "taken" });
    expect(outcome.judged[1]?.checks).to.include("bytes: read to the end, their digest is right");
  });

  it("looks at no more candidates of a step than its limit", async () => {
    const many = Array.from({ length: 500 }, (_, index) => ({
      text: `x${String(index)}`,
      about: { fidelity: "older" as const },
    }));
    const outcome = await walk([offers("a", many)]);
    expect(outcome.judged).to.have.length(50);
    expect(outcome.notes[0]).to.contain("only the first 50");
  });

  it("applies max_age_hours of a step, and lets nothing through when it is no number", async () => {
    const young = { text: "x", about: { modifiedAtMs: Date.now() - 1000 } };
    const aged = async (hours: unknown): Promise<ChainOutcome> =>
      await walk([offers("a", [young])], { steps: [{ strategy: "a", parameters: { max_age_hours: hours } }] });
    expect((await aged(1)).taken).not.to.equal(undefined);
    expect((await aged(0)).taken).to.equal(undefined);
    const wrong = await aged("one");
    expect(wrong.taken).to.equal(undefined);
    expect(wrong.notes.join()).to.contain("max_age_hours");
  });

  it("leaves no private copies behind, also when it is interrupted", async () => {
    await walk([offers("a", [{ text: "x" }])]);
    const stop = new AbortController();
    const chain = walk([offers("a", [{ text: "x" }])], {}, () => {
      stop.abort(new Error("stop"));
      stop.signal.throwIfAborted();
      return { done: true };
    });
    await rejection(chain);
    expect(readdirSync(folder().at("scratch"))).to.deep.equal([]);
  });

  it("asks for what is held open first and the same content elsewhere after the backup, named or not", () => {
    const named = (...names: string[]): string[] =>
      withImplied(names.map((strategy) => ({ strategy, parameters: {} }))).map((step) => step.strategy);
    expect(named("latest_backup", "git_history")).to.deep.equal([
      "pinned",
      "open_files",
      "pinned_links",
      "latest_backup",
      "same_content",
      "git_history",
    ]);
    expect(named("git_history")).to.deep.equal(["pinned", "open_files", "pinned_links", "same_content", "git_history"]);
    expect(named("same_content", "open_files")).to.deep.equal(["pinned", "pinned_links", "same_content", "open_files"]);
  });

  async function walk(
    strategies: readonly RecoveryStrategy[],
    about: Partial<ChainRequest> = {},
    attempt: (choice: Choice) => Attempt = () => ({ done: true }),
  ): Promise<ChainOutcome> {
    const chain = new RecoveryChain({
      strategies,
      watch: new NotingWatch(),
      clock: systemClock,
      observer: silentObserver,
      scratchParent: folder().at("scratch"),
    });
    const request: ChainRequest = {
      steps: strategies.map((strategy) => ({ strategy: strategy.id, parameters: {} })),
      accept: "newer_valid",
      byPerson: false,
      damagedSha256: undefined,
      explain: false,
      ...about,
    };
    return await chain.run(
      LOST,
      request,
      async (choice) => {
        if (choice.identical) await bytesOf(choice.open(NEVER));
        return attempt(choice);
      },
      NEVER,
    );
  }
});

const LOST: LostFile = lostFile("/data/file" as BytePath, {
  kind: "file",
  stat: { dev: 1n, ino: 1n, sizeBytes: 4, mtimeNs: 0n, ctimeNs: 0n },
  mode: 0o644,
  uid: process.getuid?.() ?? 0,
  gid: 0,
  sha256: sha256("GOOD"),
});

function offers(
  id: string,
  texts: readonly { readonly text: string; readonly about?: Partial<Candidate> }[],
  effort: RecoveryStrategy["effort"] = "reads",
  log: string[] = [],
): RecoveryStrategy {
  return {
    id,
    effort,
    // eslint-disable-next-line @typescript-eslint/require-await -- candidates at hand
    async *find() {
      log.push(`ask ${id}`);
      for (const { text, about } of texts)
        yield {
          strategy: id,
          origin: text,
          fidelity: "newer" as const,
          modifiedAtMs: 1000,
          notes: [],
          ...about,
          // eslint-disable-next-line @typescript-eslint/require-await -- bytes at hand
          async *open() {
            log.push(`read ${text}`);
            yield Buffer.from(text);
          },
        };
    },
  };
}

function verdicts(outcome: ChainOutcome): Record<string, string> {
  return Object.fromEntries(outcome.judged.map((entry) => [`${entry.strategy} ${entry.origin}`, entry.verdict]));
}
