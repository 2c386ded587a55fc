/** Taking turns: limits hold, order is kept, and who is interrupted leaves the queue without harming the others. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect } from "chai";
import fc from "fast-check";
import {
  alongside,
  KeyedMutex,
  Mutex,
  Semaphore,
  deferred,
  mapLimited,
  readAhead,
} from "../../src/base/concurrency.js";
import { rejection } from "../support/rejection.js";

const never = new AbortController().signal;

/** Counts how many are inside at once. */
class Gauge {
  inside = 0;
  most = 0;

  async stay(turns: number): Promise<void> {
    this.inside += 1;
    this.most = Math.max(this.most, this.inside);
    for (let turn = 0; turn < turns; turn += 1) await nextTurn();
    this.inside -= 1;
  }
}

describe("a semaphore", () => {
  it("lets in as many as it has permits, and the others in order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 20 }),
        async (permits, stays) => {
          const semaphore = new Semaphore(permits);
          const gauge = new Gauge();
          const entered: number[] = [];
          await Promise.all(
            stays.map((turns, index) =>
              semaphore.run(async () => {
                entered.push(index);
                await gauge.stay(turns);
              }),
            ),
          );
          expect(gauge.most).to.equal(Math.min(permits, stays.length));
          expect(entered).to.deep.equal(stays.map((_, index) => index));
        },
      ),
      { numRuns: 50 },
    );
  });

  it("gives the permit back when the work fails", async () => {
    const mutex = new Mutex();
    expect(await rejection(mutex.run(() => Promise.reject(new Error("broken"))))).to.have.property("message", "broken");
    expect(await mutex.run(() => Promise.resolve("next"))).to.equal("next");
  });

  it("lets a waiting caller leave when it is interrupted, without its permit getting lost", async () => {
    const mutex = new Mutex();
    const gate = deferred<undefined>();
    const first = mutex.run(() => gate.promise);
    const stop = new AbortController();
    const second = rejection(mutex.run(() => Promise.resolve("second"), stop.signal));
    const third = mutex.run(() => Promise.resolve("third"));
    stop.abort(new Error("enough"));
    expect(await second).to.have.property("message", "enough");
    gate.resolve(undefined);
    await first;
    expect(await third).to.equal("third");
    expect(await mutex.run(() => Promise.resolve("fourth"))).to.equal("fourth");
  });

  it("does not start work that is interrupted already", async () => {
    let started = false;
    const work = (): Promise<void> => {
      started = true;
      return Promise.resolve();
    };
    expect(await rejection(new Mutex().run(work, AbortSignal.abort(new Error("too late"))))).to.be.instanceOf(Error);
    expect(started).to.equal(false);
  });
});

describe("a mutex by key", () => {
  it("runs one at a time for each key, in order, and different keys at once", async () => {
    const mutex = new KeyedMutex();
    const perKey = new Map<string, Gauge>();
    const all = new Gauge();
    const order: string[] = [];
    const jobs = Array.from({ length: 30 }, (_, index) => {
      const key = `k${String(index % 3)}`;
      const gauge = perKey.get(key) ?? new Gauge();
      perKey.set(key, gauge);
      return mutex.run(key, async () => {
        order.push(`${key} ${String(index)}`);
        await Promise.all([gauge.stay(2), all.stay(2)]);
      });
    });
    await Promise.all(jobs);
    expect([...perKey.values()].map(({ most }) => most)).to.deep.equal([1, 1, 1]);
    expect(all.most).to.equal(3);
    expect(order.filter((each) => each.startsWith("k1"))).to.deep.equal(
      Array.from({ length: 10 }, (_, index) => `k1 ${String(3 * index + 1)}`),
    );
  });

  it("forgets a key when its work is done, also when it failed", async () => {
    const mutex = new KeyedMutex();
    const failing = rejection(mutex.run("a", () => Promise.reject(new Error("broken"))));
    const after = mutex.run("a", () => Promise.resolve(1));
    expect(mutex.size).to.equal(1);
    await Promise.all([failing, after]);
    expect(mutex.size).to.equal(0);
  });
});

describe("doing two things at once", () => {
  it("gives both results", async () => {
    const done = await alongside(
      async () => await Promise.resolve(1),
      async () => await Promise.resolve("two"),
      never,
    );
    expect(done).to.deep.equal([1, "two"]);
  });

  it("stops the one when the other fails, and has ended both when it says so", async () => {
    let hasEnded = false;
    const waiting = async (inner: AbortSignal): Promise<void> => {
      await new Promise<void>((resolve) => inner.addEventListener("abort", () => resolve()));
      await Promise.resolve();
      hasEnded = true;
      inner.throwIfAborted();
    };
    const failing = async (): Promise<never> => await Promise.reject(new Error("first"));
    const error: unknown = await alongside(waiting, failing, never).catch((reason: unknown) => reason);
    expect(error).to.be.an("error").with.property("message", "first");
    expect(hasEnded).to.equal(true);
  });
});

describe("mapping with a limit", () => {
  it("keeps the order of the input and the limit", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 8 }),
        fc.array(fc.nat({ max: 3 }), { maxLength: 30 }),
        async (limit, items) => {
          const gauge = new Gauge();
          const results = await mapLimited(items, limit, never, async (item) => {
            await gauge.stay(item);
            return item * 2;
          });
          expect(results).to.deep.equal(items.map((item) => item * 2));
          expect(gauge.most).to.be.at.most(limit);
        },
      ),
      { numRuns: 50 },
    );
  });

  it("throws the first failure, tells the others to stop, and starts nothing more", async () => {
    const started: number[] = [];
    let told: AbortSignal | undefined;
    const items = Array.from({ length: 100 }, (_, index) => index);
    const failure = await rejection(
      mapLimited(items, 3, never, async (item, signal) => {
        started.push(item);
        told = signal;
        await nextTurn();
        if (item === 4) throw new Error("item 4");
      }),
    );
    expect(failure).to.have.property("message", "item 4");
    expect(told?.aborted).to.equal(true);
    expect(started.length).to.be.below(10);
  });

  it("ends with the caller's reason when interrupted", async () => {
    const stop = new AbortController();
    const endless = mapLimited([1, 2, 3], 1, stop.signal, async () => {
      stop.abort(new Error("the caller left"));
      await nextTurn();
    });
    expect(await rejection(endless)).to.have.property("message", "the caller left");
  });
});

describe("reading ahead", () => {
  const numbers = (count: number): readonly number[] => Array.from({ length: count }, (_none, index) => index);

  it("gives every slice with what was read for it, one read ahead at most", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: 12 }), fc.integer({ min: 1, max: 5 }), async (count, size) => {
        let read = 0;
        const seen: number[] = [];
        const doubled = async (slice: readonly number[]): Promise<readonly number[]> => {
          read += 1;
          await nextTurn();
          return slice.map((item) => item * 2);
        };
        let taken = 0;
        for await (const { slice, values } of readAhead(numbers(count), size, doubled)) {
          taken += 1;
          expect(read).to.equal(Math.min(taken + 1, Math.ceil(count / size)));
          expect(values).to.deep.equal(slice.map((item) => item * 2));
          seen.push(...slice);
        }
        expect(seen).to.deep.equal(numbers(count));
      }),
      { numRuns: 50 },
    );
  });

  it("throws what a read throws when its slice is due, and not when nobody asks any more", async () => {
    const failing = async (slice: readonly number[]): Promise<number> => {
      await nextTurn();
      if (slice.includes(1)) throw new Error("unreadable");
      return 0;
    };
    const all = async (): Promise<number> => {
      let count = 0;
      for await (const _one of readAhead(numbers(3), 1, failing)) count += 1;
      return count;
    };
    expect(await rejection(all())).to.have.property("message", "unreadable");
    for await (const _one of readAhead(numbers(3), 1, failing)) break;
    for (let turns = 0; turns < 5; turns += 1) await nextTurn(); // an unhandled rejection would end the run
  });
});
