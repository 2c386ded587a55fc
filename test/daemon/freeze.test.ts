/** While a mass loss is undecided nothing is removed, whatever asks for it; what was held back is done afterwards. */
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { hasCode } from "../../src/base/errors.js";
import { silentObserver } from "../../src/base/observe.js";
import type { BytePath } from "../../src/base/paths.js";
import { AutoRepair } from "../../src/daemon/auto-repair.js";
import { collectGarbage } from "../../src/daemon/cleanup-work.js";
import { openStateDatabase } from "../../src/daemon/state-database.js";
import { IncidentBook, type NewIncident } from "../../src/recovery/incident-book.js";
import type { IncidentState } from "../../src/recovery/incident.js";
import { launchIn } from "../support/launched.js";
import { until } from "../support/program.js";
import { rejection } from "../support/rejection.js";
import { type TempFolder, useTempFolder } from "../support/temp-folder.js";

const LOST: NewIncident = { source: "data", kind: "mass", noticedBy: "event", detail: "", seenAtMs: 0, reason: "" };
/** More than the incidents that are looked at for other purposes. */
const NEWER_INCIDENTS = 1_001;
const NEVER = new AbortController().signal;

describe("a freeze after a mass loss", () => {
  const folder = useTempFolder("freeze");

  it("holds garbage collection in each state before it is decided", async () => {
    for (const state of ["open", "waiting", "healing"] as const) {
      const place = folder().below(state);
      const { id } = await withIncident(place, state, 0);
      await using daemon = await launchIn(place, {});
      const refused = await rejection(collectGarbage(daemon.parts, { dryRun: false }, NEVER));
      expect(hasCode(refused, "LIMIT_REACHED"), state).to.equal(true);
      expect(String(refused)).to.contain(id);
      expect(
        (await collectGarbage(daemon.parts, { dryRun: true }, NEVER)).chunksRemoved,
        "a dry run removes nothing",
      ).to.equal(0);
    }
  });

  it("holds it also when the incident is old and a thousand newer ones are open", async () => {
    await withIncident(folder(), "waiting", NEWER_INCIDENTS);
    await using daemon = await launchIn(folder(), {});
    expect(hasCode(await rejection(collectGarbage(daemon.parts, { dryRun: false }, NEVER)), "LIMIT_REACHED")).to.equal(
      true,
    );
  }).timeout(120_000);

  it("leaves a cleanup owed that nobody asked for, and it is done when the incident is decided", async () => {
    const { id } = await withIncident(folder(), "waiting", 0);
    await using daemon = await launchIn(folder(), {});
    await daemon.operation.plan.start(() => Promise.resolve([]));
    const { jobs, healer } = daemon.parts;
    const cleanups = (): string[] =>
      jobs
        .list()
        .filter(({ kind }) => kind === "cleanup")
        .map(({ state }) => state);
    await new AutoRepair({ jobs, healer, plan: daemon.operation.plan }).cleanup();
    await until("it has removed nothing", 5_000, () => cleanups().join() === "done");
    await healer.deny(id);
    await until("it is done after all", 5_000, () => cleanups().join() === "done,done");
  });

  it("leaves nothing owed of a cleanup that a person asked for", async () => {
    const { id } = await withIncident(folder(), "waiting", 0);
    await using daemon = await launchIn(folder(), {});
    await daemon.operation.plan.start(() => Promise.resolve([]));
    const { jobs, healer } = daemon.parts;
    const { id: job } = await daemon.services.repository.cleanup({ dry_run: false });
    await jobs.ended(job);
    await healer.deny(id);
    expect(jobs.list().filter(({ kind }) => kind === "cleanup")).to.have.length(1);
  });
});

/** Leaves a mass loss in the state database, and so many single losses after it. */
async function withIncident(place: TempFolder, state: IncidentState, newer: number): Promise<{ readonly id: string }> {
  const database = await openStateDatabase(place.at("state"), systemClock, silentObserver.log);
  try {
    const book = new IncidentBook(database.sublevel("incidents"), systemClock);
    const { id } = await book.open(LOST, [{ path: "/data/a" as BytePath, kind: "deleted" }]);
    if (state !== "open") await book.change(id, { state });
    for (let count = 0; count < newer; count += 1) {
      const path = `/data/${String(count)}` as BytePath;
      const single = await book.open({ ...LOST, kind: "deleted" }, [{ path, kind: "deleted" }]);
      await book.change(single.id, { state: "waiting" });
    }
    return { id };
  } finally {
    await database.close();
  }
}
