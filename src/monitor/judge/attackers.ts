/**
 * Who attacks, and stopping them where that is configured: a process that did at least three of an attack's deeds. What
 * was done about it is said in the detail of every file that it attacked.
 */
import type { Actor, LossEvent } from "../../base/events.js";
import type { BytePath } from "../../base/paths.js";
import type { SharedParts } from "../context.js";
import { withActor } from "../watch/actors.js";
import { stopProcess } from "../watch/stopping.js";
import { SUSPICIONS_FOR_ALARM } from "./suspicions.js";

/** Processes that are remembered as attackers of one source; an attack by more of them is not stopped by stopping. */
const ATTACKERS_MAX = 64;

export class Attackers {
  readonly #shared: SharedParts;
  readonly #source: string;
  /** Deeds, and what became of the process, by its number and start. */
  readonly #seen = new Map<string, { deeds: number; note: string | undefined }>();

  constructor(shared: SharedParts, source: string) {
    this.#shared = shared;
    this.#source = source;
  }

  /** The losses of an attack with who did each, where that is known; stops who is to be stopped. */
  async name(losses: readonly LossEvent[]): Promise<readonly LossEvent[]> {
    const { actors } = this.#shared;
    if (actors === undefined) return losses;
    const known = new Map<BytePath, Actor | undefined>();
    for (const kind of ["removed", "written"] as const) {
      const paths = losses.filter((loss) => (loss.kind === "deleted") === (kind === "removed")).map(({ path }) => path);
      const found = await actors.whoDid(kind, paths);
      for (const [index, path] of paths.entries()) known.set(path, found[index]);
    }
    // Nobody is stopped for what he was not seen to do.
    for (const actor of known.values()) if (actor !== undefined && actor.isGuess !== true) this.#count(actor);
    return losses.map((loss) => {
      const actor = known.get(loss.path);
      if (actor === undefined) return loss;
      const note = this.#noteOf(actor);
      const detail = withActor(loss.detail, actor);
      return { ...loss, detail: note === undefined ? detail : `${detail}, ${note}`, actor };
    });
  }

  /** The attack is over: whoever attacks next is another. */
  clear(): void {
    this.#seen.clear();
  }

  #count(actor: Actor): void {
    const key = keyOf(actor);
    const seen = this.#seen.get(key) ?? { deeds: 0, note: undefined };
    seen.deeds += 1;
    if (this.#seen.size < ATTACKERS_MAX) this.#seen.set(key, seen);
  }

  #noteOf(actor: Actor): string | undefined {
    const seen = this.#seen.get(keyOf(actor));
    if (!this.#shared.stopAttacker || seen === undefined || seen.deeds < SUSPICIONS_FOR_ALARM) return undefined;
    seen.note ??= this.#stop(actor);
    return seen.note;
  }

  #stop(actor: Actor): string {
    const outcome = stopProcess(actor);
    const { pid, program } = actor;
    const about = { source: this.#source, pid, program };
    if (outcome.is === "left") {
      this.#shared.log.warn("watch.attacker_not_stopped", { ...about, reason: outcome.why });
      return `which was not stopped: ${outcome.why}`;
    }
    this.#shared.log.error("watch.attacker_stopped", about);
    this.#shared.bus.emit("attacker.stopped", { source: this.#source, actor });
    return `which is stopped now: "kill -CONT ${String(pid)}" lets it go on, "kill -KILL ${String(pid)}" ends it`;
  }
}

function keyOf({ pid, startTicks }: Actor): string {
  return `${String(pid)}:${String(startTicks)}`;
}
