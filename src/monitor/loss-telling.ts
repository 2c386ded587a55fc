/**
 * Tells losses: one by one, or as one event when there are many. An event may go on: what is lost later joins it, and is
 * told as it comes, so that people hear of a deletion while it is under way.
 */
import type { Actor, LossEvent } from "../base/events.js";
import { type BytePath, isWithin, parentPath } from "../base/paths.js";
import type { SourceContext } from "./context.js";
import { lossDetail } from "./intent.js";
import { MassBreaker } from "./mass.js";
import { type Missed, asMissingFile } from "./missing.js";
import { withActor } from "./watch/actors.js";

export interface TellingHooks {
  /** True while the source is under attack: what is lost meanwhile may be a part of it. */
  isAttacked(): boolean;
  /** False when it was seen again since it was judged. */
  isStillMissing(path: BytePath): boolean;
}

export class LossTelling {
  readonly breaker: MassBreaker;
  readonly #context: SourceContext;
  readonly #hooks: TellingHooks;
  /** Roots whose stored files were not there at first. */
  readonly #begunWithout = new Set<BytePath>();
  /** Paths that the open event has told of. */
  #total = 0;
  /** Folders above what it has told of. */
  #parents = new Set<string>();
  #goesOn = false;

  constructor(context: SourceContext, hooks: TellingHooks) {
    this.#context = context;
    this.#hooks = hooks;
    this.breaker = new MassBreaker(context.mass);
  }

  /**
   * Files were once stored of this root, and none was there when it was seen first: a disk that is not mounted, or a
   * new machine. What is missing below it is one event, however little it is.
   */
  begunWithout(root: BytePath): void {
    this.#begunWithout.add(root);
  }

  /** The storage of these roots is away: what is missing there is nothing. */
  forgetBelow(isAway: (path: BytePath) => boolean): void {
    for (const root of this.#begunWithout) if (isAway(root)) this.#begunWithout.delete(root);
  }

  /** True while an event was told that is not over. */
  get goesOn(): boolean {
    return this.#goesOn;
  }

  /** Folders above the lost files that the open event has told of. */
  get toldParents(): ReadonlySet<string> {
    if (!this.breaker.isOpen(this.#nowMs())) this.#parents.clear();
    return this.#parents;
  }

  /** Marks what is lost, then tells it. `goesOn`: more of the same event is about to follow. */
  tell(missed: readonly Missed[], actors: readonly (Actor | undefined)[], goesOn: boolean): void {
    const { shared, name } = this.#context;
    const still: Missed[] = [];
    const losses: LossEvent[] = [];
    for (const [index, one] of missed.entries()) {
      if (!this.#hooks.isStillMissing(one.path)) continue; // told by whoever saw it
      still.push(one);
      losses.push(this.#lossOf(one, actors[index]));
    }
    const isMass = still.length > 0 && this.#isMass(still);
    shared.registry.markDeleted(name, still, "deleted");
    if (losses.length === 0) {
      if (this.#goesOn && !goesOn) this.#end();
      return;
    }
    shared.metrics.lost.add(losses.length, { source: name, kind: "deleted" });
    if (isMass) this.#tellMass(losses, goesOn);
    else
      for (const loss of losses) {
        this.breaker.noteSingle(this.#nowMs());
        shared.bus.emit("file.lost", loss);
      }
  }

  #isMass(missed: readonly Missed[]): boolean {
    const isRoot = missed.some(({ ground }) => ground.is === "deleted");
    const { files } = this.#context.shared.registry.totals(this.#context.name);
    return isRoot || this.#takeBegunWithout(missed) || this.breaker.isMass(missed.length, files, this.#nowMs());
  }

  #tellMass(losses: readonly LossEvent[], goesOn: boolean): void {
    const { shared, name } = this.#context;
    if (!this.breaker.isOpen(this.#nowMs())) {
      this.#total = 0;
      this.#parents.clear();
    }
    this.breaker.noteMass(this.#nowMs());
    this.#total += losses.length;
    for (const { path } of losses) addParents(this.#parents, path);
    shared.log.warn("watch.mass_loss", { source: name, paths: this.#total, new: losses.length, goes_on: goesOn });
    this.#emit(losses, goesOn);
  }

  /** Nothing follows that was announced. */
  #end(): void {
    this.#emit([], false);
  }

  #emit(losses: readonly LossEvent[], goesOn: boolean): void {
    this.#goesOn = goesOn;
    const { shared, name } = this.#context;
    shared.bus.emit("mass.loss", {
      source: name,
      losses,
      isAttack: this.#hooks.isAttacked(),
      ...(goesOn ? { goesOn } : {}),
    });
  }

  /** True when something of a root is missing of which nothing was there at first; that is said once. */
  #takeBegunWithout(missed: readonly Missed[]): boolean {
    let isTaken = false;
    for (const root of this.#begunWithout) {
      if (!missed.some(({ path }) => isWithin(path, root))) continue;
      this.#begunWithout.delete(root);
      isTaken = true;
    }
    return isTaken;
  }

  #lossOf(missed: Missed, actor: Actor | undefined): LossEvent {
    const { path, item, ground, record } = missed;
    const group = missed.group === undefined ? "" : `others of its group ${missed.group} are still there`;
    const why = ground.is === "deleted" ? ground.detail : group;
    const detail = withActor(lossDetail(asMissingFile(this.#context.name, missed), why), actor);
    return {
      source: this.#context.name,
      path,
      kind: "deleted",
      noticedBy: item.noticedBy,
      seenAtMs: item.seenAtMs,
      detail,
      ...(record.healedAtMs > 0 ? { healedAtMs: record.healedAtMs } : {}),
      ...(actor === undefined ? {} : { actor }),
    };
  }

  #nowMs(): number {
    return this.#context.shared.clock.monotonicMs();
  }
}

/** Adds all folders above a path. */
export function addParents(parents: Set<string>, path: BytePath): void {
  for (let folder = parentPath(path); !parents.has(folder) && folder !== "/"; folder = parentPath(folder))
    parents.add(folder);
}
