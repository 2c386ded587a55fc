/** Which backups stay: properties that hold for any set of backups and any policy, and the brakes. */
import { expect } from "chai";
import fc from "fast-check";
import { hasCode } from "../../src/base/errors.js";
import { BACKUP_TYPES } from "../../src/base/ids.js";
import { type CleanupPorts, cleanUp } from "../../src/policy/cleanup.js";
import {
  type BackupStamp,
  DEFAULT_RETENTION,
  type PolicyOf,
  type RetentionPolicy,
  keptBackups,
  planRetention,
} from "../../src/policy/retention.js";
import { FakeClock } from "../support/fake-clock.js";
import { RecordingObserver } from "../support/state-store.js";

const DAY = 86_400_000;
const HOUR = 3_600_000;
const NOW = Date.UTC(2026, 0, 15, 12);
const NOTHING: RetentionPolicy = {
  last: 0,
  hourly: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  yearly: 0,
  minCopies: 1,
  withinMs: 0,
};

function stamp(timeMs: number, more: Partial<BackupStamp> = {}): BackupStamp {
  return { id: `backup_${String(timeMs)}`, timeMs, type: "incremental", sources: ["a"], pinned: false, ...more };
}

const always =
  (policy: RetentionPolicy): PolicyOf =>
  () =>
    policy;

const stampsArb = fc.uniqueArray(
  fc.record({
    id: fc.uuid(),
    timeMs: fc.integer({ min: NOW - 800 * DAY, max: NOW }),
    type: fc.constantFrom(...BACKUP_TYPES),
    sources: fc.uniqueArray(fc.constantFrom("a", "b", "c"), { minLength: 1 }),
    pinned: fc.boolean(),
  }),
  { maxLength: 80, selector: ({ id }) => id },
);
const countArb = fc.integer({ min: 0, max: 12 });
const policyArb: fc.Arbitrary<RetentionPolicy> = fc.record({
  last: countArb,
  hourly: countArb,
  daily: countArb,
  weekly: countArb,
  monthly: countArb,
  yearly: countArb,
  minCopies: fc.integer({ min: 1, max: 4 }),
  withinMs: fc.integer({ min: 0, max: 30 * DAY }),
});

describe("retention", () => {
  it("keeps 24 hours, 7 days, 4 weeks, 12 months and 5 years of hourly backups, each by its newest", () => {
    const hours = Array.from({ length: 24 * 365 * 3 }, (_, index) => stamp(NOW - index * HOUR));
    const kept = keptBackups(hours, always(DEFAULT_RETENTION), NOW);
    const by = (rule: string): number => [...kept.values()].filter((rules) => rules.includes(rule)).length;
    expect({ hourly: by("hourly"), daily: by("daily"), weekly: by("weekly"), monthly: by("monthly") }).to.deep.equal({
      hourly: 24,
      daily: 7,
      weekly: 4,
      monthly: 12,
    });
    expect(by("yearly")).to.equal(4);
    expect(kept.size).to.be.within(24 + 5 + 2 + 10 + 1, 24 + 7 + 4 + 12 + 5);
    expect(kept.get(`backup_${String(Date.UTC(2026, 0, 14, 23))}`)).to.include("daily");
  });

  it("knows ISO weeks at the turn of the year", () => {
    const stamps = [Date.UTC(2026, 0, 4, 5), Date.UTC(2025, 11, 30), Date.UTC(2025, 11, 28)].map((time) => stamp(time));
    const kept = keptBackups(stamps, always({ ...NOTHING, weekly: 2 }), NOW);
    expect([...kept].filter(([, rules]) => rules.includes("weekly")).map(([id]) => id)).to.deep.equal([
      stamps[0]?.id,
      stamps[2]?.id,
    ]);
  });

  it("is idempotent: what one run keeps, a second run keeps", () => {
    fc.assert(
      fc.property(stampsArb, policyArb, (stamps, policy) => {
        const once = keptBackups(stamps, always(policy), NOW);
        const twice = keptBackups(
          stamps.filter(({ id }) => once.has(id)),
          always(policy),
          NOW,
        );
        expect([...twice.keys()]).to.have.members([...once.keys()]);
      }),
    );
  });

  it("is monotone: a more generous policy keeps everything that a stricter one keeps", () => {
    fc.assert(
      fc.property(stampsArb, policyArb, policyArb, (stamps, policy, more) => {
        const generous: RetentionPolicy = {
          last: policy.last + more.last,
          hourly: policy.hourly + more.hourly,
          daily: policy.daily + more.daily,
          weekly: policy.weekly + more.weekly,
          monthly: policy.monthly + more.monthly,
          yearly: policy.yearly + more.yearly,
          minCopies: policy.minCopies + more.minCopies,
          withinMs: policy.withinMs + more.withinMs,
        };
        const strict = keptBackups(stamps, always(policy), NOW);
        expect([...keptBackups(stamps, always(generous), NOW).keys()]).to.include.members([...strict.keys()]);
      }),
    );
  });

  it("keeps of every source the newest, the newest full one, and what is pinned, whatever the policy", () => {
    fc.assert(
      fc.property(stampsArb, (stamps) => {
        const kept = keptBackups(stamps, always(NOTHING), NOW);
        for (const source of ["a", "b", "c"] as const) {
          const own = stamps.filter(({ sources }) => sources.includes(source)).sort((a, b) => b.timeMs - a.timeMs);
          if (own[0] !== undefined)
            expect(own.filter(({ timeMs }) => timeMs === own[0]?.timeMs).some(({ id }) => kept.has(id))).to.equal(true);
          const fulls = own.filter(({ type }) => type === "full");
          if (fulls.length > 0)
            expect(fulls.some(({ id, timeMs }) => kept.has(id) && timeMs === fulls[0]?.timeMs)).to.equal(true);
        }
        for (const { id, pinned } of stamps) if (pinned) expect(kept.has(id)).to.equal(true);
      }),
    );
  });

  it("does not let frequent backups of one source push out the rare ones of another", () => {
    const rare = [stamp(NOW - 40 * DAY, { id: "rare", sources: ["b"], type: "full" })];
    const frequent = Array.from({ length: 500 }, (_, index) => stamp(NOW - index * HOUR));
    expect(keptBackups([...frequent, ...rare], always(DEFAULT_RETENTION), NOW).has("rare")).to.equal(true);
  });

  it("keeps everything within the given time", () => {
    const stamps = Array.from({ length: 100 }, (_, index) => stamp(NOW - index * HOUR));
    expect(keptBackups(stamps, always({ ...NOTHING, withinMs: 2 * DAY }), NOW).size).to.equal(48);
  });
});

describe("retention by a clock that is years ahead", () => {
  const policy = { ...NOTHING, withinMs: 30 * DAY };
  const days = Array.from({ length: 60 }, (_, index) => stamp(NOW - index * DAY));
  const AHEAD = NOW + 3650 * DAY;

  it("keeps what is young by the backups themselves, also when it made some and however often it cleans up", () => {
    let stamps: BackupStamp[] = [...days];
    for (let day = 0; day < 5; day += 1) {
      const nowMs = AHEAD + day * DAY;
      const plan = planRetention(stamps, always(policy), { nowMs, frozenBecause: undefined, shareMax: 1 });
      stamps = [...stamps.filter(({ id }) => !plan.remove.includes(id)), stamp(nowMs)];
    }
    const left = new Set(stamps.map(({ id }) => id));
    expect(days.slice(0, 10).every(({ id }) => left.has(id))).to.equal(true);
    expect(left.has(days[40]?.id ?? ""), "what is really old goes").to.equal(false);
  });

  it("counts again in full once backups lie close to each other", () => {
    const since = Array.from({ length: 31 }, (_, index) => stamp(AHEAD - index * DAY));
    const kept = keptBackups([...days, ...since], always(policy), AHEAD);
    expect([...kept.keys()]).to.have.members(since.slice(0, 30).map(({ id }) => id));
  });
});

describe("the brakes of retention", () => {
  const limits = { nowMs: NOW, frozenBecause: undefined, shareMax: 0.3 };
  const days = Array.from({ length: 100 }, (_, index) => stamp(NOW - index * DAY));

  it("refuse to remove more than a third at once", () => {
    expect(planRetention(days, always(NOTHING), limits).refusedBecause).to.contain("of 100 (9");
    expect(planRetention(days, always(NOTHING), { ...limits, shareMax: 1 }).refusedBecause).to.equal(undefined);
  });

  it("do not hinder the daily thinning of hourly backups", () => {
    let stamps: BackupStamp[] = [];
    for (let day = 0; day < 60; day += 1) {
      for (let hour = 0; hour < 24; hour += 1) stamps.push(stamp(NOW + day * DAY + hour * HOUR));
      const plan = planRetention(stamps, always(DEFAULT_RETENTION), { ...limits, nowMs: NOW + (day + 1) * DAY });
      expect(plan.refusedBecause, `day ${String(day)}`).to.equal(undefined);
      const gone = new Set(plan.remove);
      stamps = stamps.filter(({ id }) => !gone.has(id));
    }
    expect(stamps.length).to.be.within(30, 45);
  });

  it("hold while an incident of mass loss is open", () => {
    const plan = planRetention(days, always(DEFAULT_RETENTION), {
      ...limits,
      shareMax: 1,
      frozenBecause: "incident inc_1 is open",
    });
    expect(plan.refusedBecause).to.contain("inc_1");
  });

  it("hold when a backup lies in the future, because then a clock is wrong", () => {
    const future = stamp(NOW + 3 * DAY, { id: "future" });
    const plan = planRetention([...days, future], always(NOTHING), { ...limits, shareMax: 1 });
    expect(plan.refusedBecause).to.contain("clock");
  });
});

describe("cleanup", () => {
  class Repository implements CleanupPorts {
    stamps: BackupStamp[] = Array.from({ length: 12 }, (_, index) => stamp(NOW - index * DAY));
    readonly calls: string[] = [];
    frozen: string | undefined;

    listBackups(): Promise<readonly BackupStamp[]> {
      return Promise.resolve(this.stamps);
    }
    deleteBackups(ids: readonly string[]): Promise<void> {
      this.calls.push(`delete ${String(ids.length)}`);
      this.stamps = this.stamps.filter(({ id }) => !ids.includes(id));
      return Promise.resolve();
    }
    collectGarbage(dryRun: boolean): Promise<{ chunksRemoved: number; bytesFreed: number }> {
      this.calls.push(dryRun ? "look for garbage" : "remove garbage");
      return Promise.resolve({ chunksRemoved: 3, bytesFreed: 4096 });
    }
    frozenBecause(): string | undefined {
      return this.frozen;
    }
  }
  const context = { clock: new FakeClock(NOW), observer: new RecordingObserver() };
  const never = new AbortController().signal;
  const policyOf = always({ ...NOTHING, daily: 9 });

  it("removes what retention does not keep, then what nothing needs any more", async () => {
    const repository = new Repository();
    const result = await cleanUp(repository, { policyOf, dryRun: false, force: false }, context, never);
    expect(result.removed).to.deep.equal([11, 10, 9].map((days) => stamp(NOW - days * DAY).id));
    expect(repository.calls).to.deep.equal(["delete 3", "remove garbage"]);
    expect(result).to.include({ chunksRemoved: 3, bytesFreed: 4096, dryRun: false });
  });

  it("removes nothing in a dry run, and shows the same plan", async () => {
    const repository = new Repository();
    const dry = await cleanUp(repository, { policyOf, dryRun: true, force: false }, context, never);
    expect(repository.calls).to.deep.equal(["look for garbage"]);
    const real = await cleanUp(repository, { policyOf, dryRun: false, force: false }, context, never);
    expect(real.removed).to.deep.equal(dry.removed);
  });

  it("stops at a brake with a reason, having removed nothing, unless it is forced", async () => {
    const repository = new Repository();
    const options = { policyOf: always(NOTHING), dryRun: false, force: false };
    const failure = await cleanUp(repository, options, context, never).catch((error: unknown) => error);
    expect(hasCode(failure, "LIMIT_REACHED")).to.equal(true);
    expect(repository.calls).to.deep.equal([]);
    await cleanUp(repository, { ...options, force: true }, context, never);
    expect(repository.stamps).to.have.length(1);
  });

  it("removes nothing while frozen, not even when forced, and no garbage if it freezes meanwhile", async () => {
    const repository = new Repository();
    repository.frozen = "incident inc_1";
    const failure = await cleanUp(repository, { policyOf, dryRun: false, force: true }, context, never).catch(
      (error: unknown) => error,
    );
    expect(String(failure)).to.contain("inc_1");
    repository.frozen = undefined;
    const remove = repository.deleteBackups.bind(repository);
    repository.deleteBackups = async (ids) => {
      await remove(ids);
      repository.frozen = "incident inc_2";
    };
    await cleanUp(repository, { policyOf, dryRun: false, force: false }, context, never);
    expect(repository.calls).to.deep.equal(["delete 3"]);
  });
});
