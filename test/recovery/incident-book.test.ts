/** Incidents in a real LevelDB: states, pages of paths, limits. */
import { Level } from "level";
import { expect } from "chai";
import fc from "fast-check";
import type { BytePath } from "../../src/base/paths.js";
import {
  INCIDENT_PATHS_SHOWN,
  INCIDENT_STATES,
  INCIDENT_TRANSITIONS,
  type Incident,
  type IncidentDatabase,
  OPEN_STATES,
} from "../../src/recovery/incident.js";
import { CLOSED_INCIDENTS_MAX, IncidentBook } from "../../src/recovery/incident-book.js";
import { FakeClock } from "../support/fake-clock.js";
import { rejection } from "../support/rejection.js";
import { useTempFolder } from "../support/temp-folder.js";

const FRESH = { source: "data", kind: "mass", noticedBy: "event", detail: "", seenAtMs: 0, reason: "" } as const;

describe("the incident book", () => {
  const folder = useTempFolder("book");
  let level: Level;

  beforeEach(async () => {
    level = new Level(folder().at("db"));
    await level.open();
  });

  afterEach(async () => {
    await level.close();
  });

  it("has on disk what was told and decided before it goes on, and not each step of a heal", async () => {
    const synced: string[] = [];
    const noting: IncidentDatabase = {
      get: (key) => level.get(key),
      iterator: (range) => level.iterator(range),
      batch: async (operations, options) => {
        const record = operations.at(-1);
        const state = record?.type === "put" ? (JSON.parse(record.value) as Incident).state : "";
        if (options?.sync === true) synced.push(state);
        await level.batch(operations, options ?? {});
      },
    };
    const book = new IncidentBook(noting, new FakeClock());
    const { id } = await book.open(FRESH, [{ path: "/a" as BytePath, kind: "deleted" }]);
    await book.change(id, { state: "healing", reason: "under way" });
    await book.change(id, { state: "waiting", reason: "a person decides" });
    await book.change(id, { state: "healing", reason: "approved" });
    await book.change(id, { state: "healed" });
    expect(synced).to.deep.equal(["open", "waiting", "healing"]);
  });

  it("keeps a hundred thousand paths of one incident, in order, names of any bytes", async () => {
    const book = new IncidentBook(level, new FakeClock());
    const paths = Array.from({ length: 100_000 }, (_, index) => `/data/ÿþ"\\/${String(index)}` as BytePath);
    const incident = await book.open(
      FRESH,
      paths.map((path) => ({ path, kind: "deleted" as const })),
    );
    expect(incident.paths).to.have.length(INCIDENT_PATHS_SHOWN);
    await book.addPaths(incident.id, [{ path: "/late" as BytePath, kind: "truncated" }]);
    const read: string[] = [];
    for await (const entry of book.pathsOf(incident.id)) read.push(entry.path);
    expect(read).to.deep.equal([...paths, "/late"]);
    expect((await book.get(incident.id)).pathCount).to.equal(100_001);
  });

  it("moves only along the table, and closed incidents stay closed", async () => {
    const book = new IncidentBook(level, new FakeClock());
    await fc.assert(
      fc.asyncProperty(fc.array(fc.constantFrom(...INCIDENT_STATES), { maxLength: 8 }), async (moves) => {
        const { id } = await book.open({ ...FRESH, kind: "deleted" }, [{ path: "/a" as BytePath, kind: "deleted" }]);
        for (const state of moves) {
          const before = (await book.get(id)).state;
          const isAllowed = state === before || INCIDENT_TRANSITIONS[before].includes(state);
          if (isAllowed) expect((await book.change(id, { state })).state).to.equal(state);
          else expect(await rejection(book.change(id, { state }))).to.have.property("code", "INCIDENT_STATE");
        }
        const last = await book.get(id);
        expect(book.isOpen(id)).to.equal(OPEN_STATES.has(last.state));
        expect(last.closedAtMs === undefined).to.equal(OPEN_STATES.has(last.state));
      }),
      { numRuns: 50 },
    );
  });

  it("lets only one of two decisions win", async () => {
    const book = new IncidentBook(level, new FakeClock());
    const { id } = await book.open(FRESH, []);
    await book.change(id, { state: "waiting" });
    const both = await Promise.allSettled([
      book.change(id, { state: "healing" }, ["waiting"]),
      book.change(id, { state: "denied" }, ["waiting"]),
    ]);
    expect(both.map((outcome) => outcome.status)).to.deep.equal(["fulfilled", "rejected"]);
  });

  it("finds an incident by the beginning of its id, and names those that begin alike", async () => {
    const clock = new FakeClock();
    const book = new IncidentBook(level, clock);
    const first = (await book.open(FRESH, [])).id;
    await clock.advance(60_000);
    const second = (await book.open(FRESH, [])).id;
    const common = Array.from(first).findIndex((letter, index) => letter !== second[index]);
    expect((await book.find(first)).id).to.equal(first);
    expect((await book.find(first.slice(0, common + 1))).id).to.equal(first);
    const both = await rejection(book.find(first.slice(0, common)));
    expect(both).to.include({ code: "INCIDENT_AMBIGUOUS" });
    expect(both).to.have.property("message").that.includes(first).and.includes(second);
    for (const none of ["", "inc_zz", "~", `${first}0`])
      expect(await rejection(book.find(none)), none).to.have.property("code", "INCIDENT_NOT_FOUND");
  });

  it("knows after a restart what was open", async () => {
    const clock = new FakeClock();
    const book = new IncidentBook(level, clock);
    const path = "/a" as BytePath;
    const open = await book.open({ ...FRESH, kind: "deleted" }, [{ path, kind: "deleted" }]);
    const closed = await book.open({ ...FRESH, kind: "deleted" }, [{ path: "/b" as BytePath, kind: "deleted" }]);
    await book.change(closed.id, { state: "returned" });
    const again = new IncidentBook(level, clock);
    expect((await again.load()).map((incident) => incident.id)).to.deep.equal([open.id]);
    expect(again.openIncidentOf(path)).to.equal(open.id);
    expect(again.openIncidentOf("/b" as BytePath)).to.equal(undefined);
    expect((await again.list({ onlyOpen: false, limit: 9 })).map((incident) => incident.id)).to.have.members([
      open.id,
      closed.id,
    ]);
  });

  it("drops the oldest closed incidents beyond its limit, never an open one", async () => {
    const clock = new FakeClock();
    const book = new IncidentBook(level, clock);
    const open = await book.open(FRESH, [{ path: "/open" as BytePath, kind: "deleted" }]);
    const template = await book.change(open.id, { reason: "waits" });
    const records = Array.from({ length: CLOSED_INCIDENTS_MAX + 5 }, (_, index) => {
      const id = `inc_zz${String(index).padStart(8, "0")}`;
      return { type: "put" as const, key: `i!${id}`, value: JSON.stringify({ ...template, id, state: "healed" }) };
    });
    await level.batch(records);
    const again = new IncidentBook(level, clock);
    expect(await again.load()).to.have.length(1);
    expect(await rejection(again.get("inc_zz00000004"))).to.have.property("code", "INCIDENT_NOT_FOUND");
    expect((await again.get("inc_zz00000005")).state).to.equal("healed");
    expect((await again.get(open.id)).state).to.equal("open");
  });
});
