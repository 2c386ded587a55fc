/**
 * Incidents about files that a source is expected to hold and does not. Nothing was lost that holdfast knows of, so there
 * is nothing to put back: the incident says what is missing, stands until it is there again, and never doubles.
 */
import type { EventBus } from "../base/events.js";
import type { Observer } from "../base/observe.js";
import type { IncidentHealer } from "./heal-incident.js";
import type { Incident } from "./incident.js";
import type { IncidentBook } from "./incident-book.js";
import { KeyedMutex } from "../base/concurrency.js";
import type { Clock } from "../base/clock.js";

export interface ExpectedFilesOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  readonly book: IncidentBook;
  readonly incidents: IncidentHealer;
  /** Runs something in the background; its failure is logged. */
  readonly work: (work: () => Promise<void>) => void;
}

/** Whether an incident is one of these. */
export function isExpectation({ kind }: Pick<Incident, "kind">): boolean {
  return kind === "expected_missing";
}

export class ExpectedFiles implements Disposable {
  readonly #options: ExpectedFilesOptions;
  /** Ids of the open incidents by source and pattern. */
  readonly #open = new Map<string, string>();
  readonly #turns = new KeyedMutex();
  readonly #ends: (() => void)[] = [];

  constructor(options: ExpectedFilesOptions) {
    this.#options = options;
  }

  /** Takes up the open incidents of the last run and listens. Call once. */
  start(open: readonly Incident[]): void {
    const { bus, work } = this.#options;
    for (const incident of open)
      if (isExpectation(incident)) this.#open.set(keyOf(incident.source, incident.expected ?? ""), incident.id);
    this.#ends.push(
      bus.on("files.missing", (event) => {
        work(() => this.#turns.run(keyOf(event.source, event.match), () => this.#missing(event)));
      }),
      bus.on("files.expected", ({ source, match }) => {
        work(() => this.#turns.run(keyOf(source, match), () => this.#expected(source, match)));
      }),
    );
  }

  [Symbol.dispose](): void {
    for (const end of this.#ends) end();
  }

  async #missing({ source, match, detail }: { source: string; match: string; detail: string }): Promise<void> {
    const { clock, book, incidents, observer } = this.#options;
    const known = this.#open.get(keyOf(source, match));
    if (known !== undefined && book.isOpen(known)) {
      const incident = await book.change(known, { detail: textOf(match, detail) });
      if (incident.state === "open") await incidents.conclude(incident, "noted", REASON); // a crash came in between
      return;
    }
    const fresh = {
      ...{ source, kind: "expected_missing" as const, noticedBy: "sweep" as const, expected: match, reason: "" },
      detail: textOf(match, detail),
      seenAtMs: clock.nowMs(),
    };
    const incident = await book.open(fresh, []);
    this.#open.set(keyOf(source, match), incident.id);
    observer.log.warn("incident.opened", { id: incident.id, source, kind: incident.kind, detail: incident.detail });
    await incidents.conclude(incident, "noted", REASON);
  }

  async #expected(source: string, match: string): Promise<void> {
    const { book, incidents } = this.#options;
    const id = this.#open.get(keyOf(source, match));
    this.#open.delete(keyOf(source, match));
    if (id === undefined || !book.isOpen(id)) return;
    await incidents.conclude(
      await book.get(id),
      "returned",
      "the files are there again, or nobody expects them any more",
    );
  }
}

const REASON = "nothing is to be put back: whatever makes these files has to make them again";

function textOf(match: string, detail: string): string {
  return `${match}: ${detail}`;
}

function keyOf(source: string, match: string): string {
  return `${source}\0${match}`;
}
