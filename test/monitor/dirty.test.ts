/** The set of dirty paths: what is due comes out, the soonest first, each once. */
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import { DirtySet, type RestingItem } from "../../src/monitor/dirty.js";

function resting(dueMs: number): RestingItem {
  return { noticedBy: "event", seenAtMs: 0, thorough: false, stamp: "s", firstMs: 0, dueMs };
}

function allDue(set: DirtySet, nowMs: number): [string, number][] {
  const taken: [string, number][] = [];
  for (let next = set.takeRested(nowMs); next !== undefined; next = set.takeRested(nowMs))
    taken.push([next[0], next[1].dueMs]);
  return taken;
}

describe("the set of dirty paths", () => {
  it("gives rested paths in the order of being due, whatever the order in which they came", () => {
    const set = new DirtySet();
    for (const [name, dueMs] of [
      ["late", 300],
      ["soon", 100],
      ["middle", 200],
    ] as const)
      set.rest(name as BytePath, resting(dueMs));
    expect(set.nextDueMs).to.equal(100);
    expect(allDue(set, 99)).to.deep.equal([]);
    expect(allDue(set, 250).map(([name]) => name)).to.deep.equal(["soon", "middle"]);
    expect(set.nextDueMs).to.equal(300);
    expect(set.size).to.equal(1);
  });

  it("forgets what was dropped, and goes by the newest time of what was put off", () => {
    const set = new DirtySet();
    for (const name of ["a", "b", "c"]) set.rest(name as BytePath, resting(100));
    set.drop("b" as BytePath);
    set.rest("a" as BytePath, resting(500));
    expect(allDue(set, 400)).to.deep.equal([["c", 100]]);
    expect(allDue(set, 500)).to.deep.equal([["a", 500]]);
    expect(set.nextDueMs).to.equal(undefined);
  });

  it("agrees with a sorted list over any history", () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("rest" as const), path: fc.nat(20), atMs: fc.nat(1000) }),
      fc.record({ do: fc.constant("drop" as const), path: fc.nat(20), atMs: fc.constant(0) }),
      fc.record({ do: fc.constant("take" as const), path: fc.constant(0), atMs: fc.nat(1000) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const set = new DirtySet();
        const model = new Map<string, number>();
        for (const { do: kind, path, atMs } of steps) {
          const name = `p${path}`;
          if (kind === "rest") {
            set.rest(name as BytePath, resting(atMs));
            model.set(name, atMs);
          } else if (kind === "drop") {
            set.drop(name as BytePath);
            model.delete(name);
          } else {
            const expected = [...model].filter(([, dueMs]) => dueMs <= atMs);
            for (const [due] of expected) model.delete(due);
            const taken = allDue(set, atMs);
            expect(taken.map(([, dueMs]) => dueMs)).to.deep.equal(
              expected.map(([, dueMs]) => dueMs).sort((a, b) => a - b),
            );
            expect(new Set(taken.map(([name]) => name))).to.deep.equal(new Set(expected.map(([name]) => name)));
          }
          expect(set.size).to.equal(model.size);
          expect(set.nextDueMs).to.equal(model.size === 0 ? undefined : Math.min(...model.values()));
        }
      }),
    );
  });
});
