/** When schedules are due, also where the clock jumps. */
import { expect } from "chai";
import fc from "fast-check";
import { hasCode } from "../../src/base/errors.js";
import { type When, recurrence } from "../../src/policy/calendar.js";

function times(when: When, zone: string, after: string, count: number): readonly string[] {
  const rule = recurrence(when, zone);
  const found: string[] = [];
  for (let time = Date.parse(after); found.length < count;) {
    time = rule.nextAfter(time);
    found.push(new Date(time).toISOString().slice(0, 16));
  }
  return found;
}

const daily = (time: string): When => ({ kind: "daily", time });
const cron = (line: string): When => ({ kind: "cron", line });

describe("the calendar", () => {
  it("knows hours, days, weeks, months and cron lines", () => {
    expect(times({ kind: "hourly", minute: 15 }, "UTC", "2026-01-15T12:15:00Z", 2)).to.deep.equal([
      "2026-01-15T13:15",
      "2026-01-15T14:15",
    ]);
    expect(times(daily("02:00"), "UTC", "2026-02-27T03:00:00Z", 3)).to.deep.equal([
      "2026-02-28T02:00",
      "2026-03-01T02:00",
      "2026-03-02T02:00",
    ]);
    expect(times({ kind: "weekly", day: "sunday", time: "03:00" }, "UTC", "2026-01-15T12:00:00Z", 2)).to.deep.equal([
      "2026-01-18T03:00",
      "2026-01-25T03:00",
    ]);
    expect(times(cron("*/20 8-9 * * mon-fri"), "UTC", "2026-01-16T09:20:00Z", 3)).to.deep.equal([
      "2026-01-16T09:40",
      "2026-01-19T08:00",
      "2026-01-19T08:20",
    ]);
  });

  it("takes a month's last day for a day that it does not have", () => {
    expect(times({ kind: "monthly", day: 31, time: "03:00" }, "UTC", "2026-01-15T00:00:00Z", 4)).to.deep.equal([
      "2026-01-31T03:00",
      "2026-02-28T03:00",
      "2026-03-31T03:00",
      "2026-04-30T03:00",
    ]);
    expect(times({ kind: "monthly", day: 29, time: "03:00" }, "UTC", "2028-01-30T00:00:00Z", 2)).to.deep.equal([
      "2028-02-29T03:00",
      "2028-03-29T03:00",
    ]);
  });

  it("runs once on the day whose night skips the time, right after the gap", () => {
    expect(times(daily("02:30"), "Europe/Berlin", "2026-03-28T12:00:00Z", 2)).to.deep.equal([
      "2026-03-29T01:00",
      "2026-03-30T00:30",
    ]);
    expect(times(daily("00:30"), "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2)).to.deep.equal([
      "2018-11-04T03:00",
      "2018-11-05T02:30",
    ]);
  });

  it("runs once on the night that has the time twice", () => {
    expect(times(daily("02:30"), "Europe/Berlin", "2026-10-24T12:00:00Z", 2)).to.deep.equal([
      "2026-10-25T00:30",
      "2026-10-26T01:30",
    ]);
    expect(times(cron("30 2 * * *"), "Europe/Berlin", "2026-10-25T00:30:00Z", 1)).to.deep.equal(["2026-10-26T01:30"]);
    expect(times(daily("01:45"), "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2)).to.deep.equal([
      "2026-04-04T14:45",
      "2026-04-05T15:15",
    ]);
  });

  it("follows real hours for what is due every hour", () => {
    for (const when of [{ kind: "hourly", minute: 30 } as const, cron("30 * * * *"), cron("30 0-23 * * *")]) {
      expect(times(when, "Europe/Berlin", "2026-10-24T23:40:00Z", 3)).to.deep.equal([
        "2026-10-25T00:30",
        "2026-10-25T01:30",
        "2026-10-25T02:30",
      ]);
      expect(times(when, "Europe/Berlin", "2026-03-29T00:00:00Z", 3)).to.deep.equal([
        "2026-03-29T00:30",
        "2026-03-29T01:30",
        "2026-03-29T02:30",
      ]);
    }
  });

  it("runs a daily job on every day of the year in every zone, once", () => {
    for (const zone of ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca"]) {
      const rule = recurrence(daily("02:15"), zone);
      let previous = rule.nextAfter(Date.UTC(2026, 0, 1));
      for (let day = 0; day < 365; day += 1) {
        const time = rule.nextAfter(previous);
        const hours = (time - previous) / 3_600_000;
        expect(hours, `${zone} ${new Date(time).toISOString()}`).to.be.within(22.9, 25.1);
        previous = time;
      }
    }
  }).timeout(60_000);

  it("takes a day of the month or a weekday when a cron line has both", () => {
    expect(times(cron("0 4 13 * fri"), "UTC", "2026-01-07T00:00:00Z", 4)).to.deep.equal([
      "2026-01-09T04:00",
      "2026-01-13T04:00",
      "2026-01-16T04:00",
      "2026-01-23T04:00",
    ]);
    expect(times(cron("0 0 */2 * mon"), "UTC", "2026-01-01T12:00:00Z", 3)).to.deep.equal([
      ...["2026-01-05T00:00", "2026-01-19T00:00", "2026-02-09T00:00"], // odd Mondays: an asterisk restricts nothing
    ]);
    expect(times(cron("0 0 13 * */5"), "UTC", "2026-01-01T12:00:00Z", 2)).to.deep.equal([
      ...["2026-02-13T00:00", "2026-03-13T00:00"], // a Sunday or Friday that is the 13th
    ]);
    expect(times(cron("0 0 30 2 7"), "UTC", "2026-02-01T12:00:00Z", 1)).to.deep.equal(["2026-02-08T00:00"]);
    expect(times(cron("@monthly"), "UTC", "2026-02-01T12:00:00Z", 1)).to.deep.equal(["2026-03-01T00:00"]);
    expect(times(cron("0 0 29 feb *"), "UTC", "2096-03-01T00:00:00Z", 1)).to.deep.equal(["2104-02-29T00:00"]);
  });

  it("always gives a later time, the same one from any moment before it", () => {
    const whens: readonly When[] = [
      daily("02:30"),
      cron("*/7 1,3,22 * * *"),
      { kind: "monthly", day: 30, time: "00:00" },
      { kind: "weekly", day: "monday", time: "23:59" },
    ];
    const zones = ["Europe/Berlin", "America/New_York", "UTC"];
    fc.assert(
      fc.property(
        fc.constantFrom(...whens),
        fc.constantFrom(...zones),
        fc.integer({ min: Date.UTC(2020, 0), max: Date.UTC(2035, 0) }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (when, zone, afterMs, share) => {
          const rule = recurrence(when, zone);
          const next = rule.nextAfter(afterMs);
          expect(next).to.be.greaterThan(afterMs);
          expect(rule.nextAfter(Math.floor(afterMs + share * (next - 1 - afterMs)))).to.equal(next);
        },
      ),
      { numRuns: 150 },
    );
  }).timeout(60_000);

  it("refuses what is no schedule, and what never comes, with a hint", () => {
    const wrong: readonly (readonly [When, string])[] = [
      [daily("25:00"), "UTC"],
      [daily("2"), "UTC"],
      [daily("02:00"), "Mars/Olympus"],
      [{ kind: "monthly", day: 0, time: "02:00" }, "UTC"],
      [{ kind: "hourly", minute: 60 }, "UTC"],
      [{ kind: "weekly", day: "someday" as "sunday", time: "02:00" }, "UTC"],
      ...[
        "* * * *",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 30 feb *",
        "a b c d e",
        "1-0 * * * *",
        "*/0 * * * *",
        "",
        "0 0 * * 8",
      ].map((line) => [cron(line), "UTC"] as const),
    ];
    for (const [when, zone] of wrong)
      expect(() => recurrence(when, zone), JSON.stringify(when))
        .to.throw()
        .and.satisfy((error: unknown) => hasCode(error, "CONFIG_INVALID"));
  });

  it("reads any cron line or refuses it, and never hangs", () => {
    const part = fc.constantFrom(
      "*",
      "0",
      "5",
      "*/3",
      "1-4",
      "31",
      "30",
      "29",
      "2",
      "feb",
      "sun",
      "7",
      "1,15",
      "x",
      "-",
      "99",
    );
    fc.assert(
      fc.property(fc.array(part, { minLength: 4, maxLength: 6 }), (parts) => {
        try {
          recurrence(cron(parts.join(" ")), "UTC").nextAfter(Date.UTC(2026, 0));
        } catch (error) {
          if (!hasCode(error, "CONFIG_INVALID")) throw error;
        }
      }),
      { numRuns: 300 },
    );
  }).timeout(60_000);
});
