/**
 * Says when files that a source must hold are not there, and when they are again: once each, also across restarts. What
 * was told is noted beside the registry, so that an end which came while nobody watched is told too.
 */
import { messageOf } from "../base/errors.js";
import type { BytePath } from "../base/paths.js";
import type { SourceContext } from "./context.js";
import type { ExpectationTally, UnmetExpectation } from "./expectations.js";

export class ExpectationWatch {
  readonly #context: SourceContext;
  /** Patterns whose end has yet to be told; those of an earlier run too. */
  readonly #told = new Set<string>();
  #unmet: readonly UnmetExpectation[] = [];

  constructor(context: SourceContext) {
    this.#context = context;
  }

  /** Takes up what an earlier run told. Call once, before the first look. */
  async start(): Promise<void> {
    const { registry } = this.#context.shared;
    const text = await registry.readNote(this.#noteName);
    const told: unknown = text === undefined || text === "" ? [] : JSON.parse(text);
    if (Array.isArray(told)) for (const match of told) if (typeof match === "string") this.#told.add(match);
    if (this.#context.expectations.newTally() === undefined) this.forget(); // nothing is expected any more
  }

  /** What does not hold, by the last look. */
  get unmet(): readonly UnmetExpectation[] {
    return this.#unmet;
  }

  /** A whole root was looked at; of a source that is not whole (`isThere`) nothing is said. */
  looked(root: BytePath, tally: ExpectationTally, isThere: boolean): void {
    const { shared, name, expectations, source } = this.#context;
    expectations.looked(root, tally);
    const roots = source.roots.map(({ folder }) => folder);
    const unmet = isThere ? expectations.unmet(roots, this.#context.nowMs()) : undefined;
    if (unmet === undefined) return;
    const before = new Set(this.#unmet.map(({ match }) => match));
    const now = new Set(unmet.map(({ match }) => match));
    this.#unmet = unmet;
    for (const { match, detail } of unmet) {
      if (before.has(match)) continue;
      this.#told.add(match);
      shared.log.warn("watch.files_missing", { source: name, match, detail });
      shared.bus.emit("files.missing", { source: name, match, detail });
    }
    const ended = [...this.#told].filter((match) => !now.has(match));
    for (const match of ended) this.#tellEnd(match);
    if (ended.length > 0 || now.size > before.size) this.#save();
  }

  /** Nobody expects anything of the source any more. */
  forget(): void {
    this.#unmet = [];
    if (this.#told.size === 0) return;
    for (const match of [...this.#told]) this.#tellEnd(match);
    this.#save();
  }

  get #noteName(): string {
    return `expect:${this.#context.name}`;
  }

  #tellEnd(match: string): void {
    this.#told.delete(match);
    this.#context.shared.bus.emit("files.expected", { source: this.#context.name, match });
  }

  #save(): void {
    const { registry, log } = this.#context.shared;
    registry.writeNote(this.#noteName, JSON.stringify([...this.#told])).catch((error: unknown) => {
      log.warn("watch.note_failed", { source: this.#context.name, message: messageOf(error) });
    });
  }
}
