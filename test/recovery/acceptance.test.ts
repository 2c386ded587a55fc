/** What may be put back without asking: properties over every mix of candidate, content and policy. */
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { type AcceptanceRule, compareAcceptable, judge } from "../../src/recovery/acceptance.js";
import type { ContentFacts } from "../../src/recovery/content-facts.js";
import { scoreOf, totalOf } from "../../src/recovery/score.js";
import {
  ACCEPTANCE_LEVELS,
  type Candidate,
  FIDELITIES,
  type LastGood,
  type LostFile,
} from "../../src/recovery/strategy.js";

const GOOD = "a".repeat(64);
const OTHER = "b".repeat(64);
const NOW_MS = 1_000_000_000;
const HOUR_MS = 3_600_000;

describe("accepting a candidate", () => {
  it("takes the last good content whatever the policy and its age are", () => {
    fc.assert(
      fc.property(ruleArb, candidateArb, (rule, candidate) => {
        const claimed = { ...candidate, sha256: GOOD, ...withoutRefusals };
        expect(judge(lost(), claimed, undefined, { ...rule, damagedSha256: undefined }).verdict).to.equal("identical");
      }),
    );
  });

  it("never takes invalid content, the damaged bytes, foreign bytes, or empty ones that only seem acceptable", () => {
    fc.assert(
      fc.property(ruleArb, candidateArb, factsArb, (rule, candidate, facts) => {
        const { verdict } = judge(lost(), candidate, facts, rule);
        if (verdict !== "acceptable") return;
        expect(facts.validity.verdict).not.to.equal("invalid");
        expect(facts.sha256).not.to.equal(rule.damagedSha256);
        expect(facts.sizeBytes).to.be.greaterThan(0);
        expect([undefined, 0, 1000]).to.include(candidate.ownerUid);
        if (rule.accept !== "partial") expect(candidate.fidelity).not.to.equal("partial");
        if (!rule.byPerson) expect(candidate.offerOnly).to.equal(undefined);
        if (rule.accept === "identical") expect.fail("only identical content is accepted");
      }),
      { numRuns: 2000 },
    );
  });

  it("accepts more, never less, the more the policy allows", () => {
    fc.assert(
      fc.property(ruleArb, candidateArb, factsArb, (rule, candidate, facts) => {
        const takes = ACCEPTANCE_LEVELS.map((accept) => {
          const { verdict } = judge(lost(), candidate, facts, { ...rule, accept });
          return verdict === "acceptable" || verdict === "identical";
        });
        for (let level = 1; level < takes.length; level += 1)
          if (takes[level - 1] === true) expect(takes[level]).to.equal(true);
      }),
      { numRuns: 1000 },
    );
  });

  it("offers what is older than max_age_hours, and takes what is younger though it is older than the last good", () => {
    const rule: AcceptanceRule = { ...anyRule, accept: "newer_valid", maxAgeMs: HOUR_MS };
    const older = candidate({ fidelity: "older", modifiedAtMs: 5, knownGoodAtMs: NOW_MS - HOUR_MS / 2 });
    expect(judge(lost(), older, facts({}), rule).verdict).to.equal("acceptable");
    expect(judge(lost(), { ...older, knownGoodAtMs: NOW_MS - 2 * HOUR_MS }, facts({}), rule).verdict).to.equal("offer");
    expect(judge(lost(), older, facts({}), { ...rule, maxAgeMs: undefined }).verdict).to.equal("offer");
  });

  it("takes the lost inode itself, but not when it was emptied or broken before it was deleted", () => {
    const held = candidate({ sameInode: true, fidelity: "exact" });
    const rule = { ...anyRule, accept: "identical" as const };
    expect(judge(lost(), held, facts({}), rule).verdict).to.equal("identical");
    expect(judge(lost(), held, facts({ sizeBytes: 0 }), rule).verdict).to.equal("offer");
    const broken = facts({ validity: { verdict: "invalid", detail: "no JSON" } });
    expect(judge(lost(), held, broken, rule).verdict).to.equal("offer");
  });

  it("accepts anything valid when nothing is known of the file", () => {
    const unknown: LostFile = { ...lost(), lastGood: undefined };
    expect(judge(unknown, candidate({ fidelity: "older" }), facts({}), anyRule).verdict).to.equal("acceptable");
  });

  it("prefers whole content, then the higher score, then the newer, then the larger", () => {
    const entry = (
      about: Partial<Candidate>,
      content: Partial<ContentFacts>,
    ): Parameters<typeof compareAcceptable>[0] => ({
      candidate: candidate(about),
      facts: facts(content),
      score: scoreOf(lost(), candidate(about), facts(content), false),
    });
    const valid = { verdict: "valid", detail: "" } as const;
    const best = [
      entry({ modifiedAtMs: 1, fidelity: "older" }, { validity: valid }),
      entry({}, {}),
      entry({ modifiedAtMs: 8 }, { sizeBytes: 99 }),
      entry({ modifiedAtMs: 9 }, { sizeBytes: 20 }),
      entry({ modifiedAtMs: 9 }, { sizeBytes: 10 }),
      entry({ modifiedAtMs: 9, fidelity: "partial" }, { validity: valid }),
    ];
    fc.assert(
      fc.property(fc.shuffledSubarray(best, { minLength: best.length }), (shuffled) => {
        expect([...shuffled].sort(compareAcceptable)).to.deep.equal(best);
      }),
    );
  });
});

describe("the score of a candidate", () => {
  it("is 100 for the last good content alone, and each kind of merit outweighs all that follow", () => {
    fc.assert(
      fc.property(candidateArb, factsArb, candidateArb, factsArb, (a, aFacts, b, bFacts) => {
        expect(totalOf(scoreOf(lost(), a, aFacts, true))).to.equal(100);
        const [one, other] = [scoreOf(lost(), a, aFacts, false), scoreOf(lost(), b, bFacts, false)];
        const merits = ["validity", "freshness", "completeness", "provenance"] as const;
        const first = merits.find((merit) => one[merit] !== other[merit]);
        const expected = first === undefined ? 0 : Math.sign(one[first] - other[first]);
        expect(Math.sign(totalOf(one) - totalOf(other))).to.equal(expected);
        expect(totalOf(one)).to.be.within(0, 89);
      }),
      { numRuns: 2000 },
    );
  });

  it("falls with the time by which content is older than the last good one", () => {
    const lastMs = NOW_MS - 10_000;
    const freshness = (olderByMs: number): number =>
      scoreOf(lost(), candidate({ fidelity: "older", modifiedAtMs: lastMs - olderByMs }), facts({}), false).freshness;
    expect([0, HOUR_MS, HOUR_MS + 1, 24 * HOUR_MS, 30 * 24 * HOUR_MS, 31 * 24 * HOUR_MS].map(freshness)).to.deep.equal([
      18, 18, 12, 12, 6, 0,
    ]);
    expect(scoreOf(lost(), candidate({ modifiedAtMs: lastMs }), facts({}), false).freshness).to.equal(24);
  });
});

const lastGood: LastGood = {
  kind: "file",
  stat: { dev: 1n, ino: 2n, sizeBytes: 100, mtimeNs: BigInt(NOW_MS - 10_000) * 1_000_000n, ctimeNs: 0n },
  mode: 0o644,
  uid: 1000,
  gid: 1000,
  sha256: GOOD,
};
const withoutRefusals = { offerOnly: undefined as never, ownerUid: 1000 };
const anyRule: AcceptanceRule = {
  accept: "newer_valid",
  maxAgeMs: undefined,
  nowMs: NOW_MS,
  damagedSha256: undefined,
  byPerson: false,
};

function lost(): LostFile {
  return { source: "s", path: "/f" as BytePath, kind: "deleted", seenAtMs: NOW_MS, lastGood, present: undefined };
}

function candidate(about: Partial<Candidate>): Candidate {
  return {
    ...{ strategy: "s", origin: "o", fidelity: "newer", notes: [] },
    ...about,
    // eslint-disable-next-line @typescript-eslint/require-await -- never read here
    async *open() {
      yield Buffer.alloc(0);
    },
  };
}

function facts(about: Partial<ContentFacts>): ContentFacts {
  return { sha256: OTHER, sizeBytes: 10, validity: { verdict: "unchecked", detail: "" }, ...about };
}

const ruleArb: fc.Arbitrary<AcceptanceRule> = fc.record({
  accept: fc.constantFrom(...ACCEPTANCE_LEVELS),
  maxAgeMs: fc.option(fc.integer({ min: 0, max: 100 * HOUR_MS }), { nil: undefined }),
  nowMs: fc.constant(NOW_MS),
  damagedSha256: fc.constantFrom(undefined, OTHER, "c".repeat(64)),
  byPerson: fc.boolean(),
});
const candidateArb = fc
  .record(
    {
      fidelity: fc.constantFrom(...FIDELITIES),
      modifiedAtMs: fc.integer({ min: 0, max: NOW_MS }),
      ownerUid: fc.constantFrom(0, 1000, 4242),
      offerOnly: fc.constant("Trash"),
      sameInode: fc.boolean(),
    },
    { requiredKeys: ["fidelity"] },
  )
  .map((about) => candidate(about as Partial<Candidate>));
const factsArb: fc.Arbitrary<ContentFacts> = fc.record({
  sha256: fc.constantFrom(OTHER, "c".repeat(64)),
  sizeBytes: fc.constantFrom(0, 1, 100),
  validity: fc
    .constantFrom(...(["valid", "invalid", "unchecked"] as const))
    .map((verdict) => ({ verdict, detail: "" })),
});
