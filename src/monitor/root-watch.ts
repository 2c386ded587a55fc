/**
 * One root of a source: its ears (native events, or polling where there are none), and whether the ground under it is
 * still the same. It tells when something is to be looked at and when it cannot hear.
 */
import type { Clock, Timer } from "../base/clock.js";
import { deferred } from "../base/concurrency.js";
import type { BytePath } from "../base/paths.js";
import type { WatchRoot } from "./ports.js";
import { type Mount, type RootIdentity, type RootVerdict, earlessReason, judgeRoot } from "./watch/mounts.js";
import type { Actors } from "./watch/actors.js";
import { type HeardChanges, type NativeWatcher, type WatchHandle, canHear } from "./watch/native.js";

export interface RootHooks {
  changed(heard: HeardChanges): void;
  /** Look through everything at and below the folder; resolves when that is done. */
  reconcile(under: BytePath, reason: string): Promise<void>;
  /** Look at these folders again, thoroughly: they may have changed before anybody watched them. */
  recheck(folders: readonly BytePath[]): void;
  /** Sets or ends the reason why changes may be noticed late. */
  degraded(reason: string | undefined): void;
}

export interface RootOptions {
  readonly clock: Clock;
  readonly native: Pick<NativeWatcher, "watch"> | undefined;
  readonly pollMs: number;
  /** Asked who did what, beside the ears. */
  readonly actors?: Pick<Actors, "watch"> | undefined;
}

/** Ears are set anew at most this often, ms. */
const REWATCH_PAUSE_MS = 200;
/** A subscription that failed is tried again after this long, then after twice as long each time, ms. */
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 30_000;
/** Folders to be looked at again after new ears; beyond, the whole root is. */
const RECHECK_MAX = 10_000;
/** The first subscription is waited for this long; then the start goes on and the sweeps stand in, ms. */
const FIRST_ARM_MAX_MS = 60_000;

export class RootWatch {
  readonly root: WatchRoot;
  readonly #options: RootOptions;
  readonly #hooks: RootHooks;
  #handle: WatchHandle | undefined;
  #unwatchActors: (() => void) | undefined;
  #poll: Timer | undefined;
  #retry: Timer | undefined;
  #rewatchTimer: Timer | undefined;
  /** Steady ms of the last time that ears were asked for. */
  #askedMs = -Infinity;
  #isFirst = true;
  #isDeaf = false;
  /** Times that ears failed; tells whether they failed again while something was caught up. */
  #deafCount = 0;
  #retryMs = RETRY_MIN_MS;
  #isRewatching = false;
  readonly #unwatched = new Set<BytePath>();
  /** Those of them for which it is being listened anew. */
  #asked: readonly BytePath[] = [];
  #ready = deferred<undefined>();
  identity: RootIdentity | undefined;

  constructor(root: WatchRoot, options: RootOptions, hooks: RootHooks) {
    this.root = root;
    this.#options = options;
    this.#hooks = hooks;
  }

  /** Why there are no events here; undefined when there are. */
  get earless(): string | undefined {
    if (this.#options.native === undefined) return "events are switched off; the folder is swept";
    if (!canHear(this.root.folder)) return "the folder's name is not UTF-8; it is swept";
    return earlessReason(this.root.folder);
  }

  /** Why changes below the root may not be heard; undefined when all are. */
  get doubt(): string | undefined {
    if (this.earless !== undefined) return this.earless;
    if (this.#handle === undefined || this.#isFirst || this.#isDeaf) return "the watcher does not hear the folder";
    const isRewatching = this.#isRewatching || this.#rewatchTimer !== undefined || this.#unwatched.size > 0;
    return isRewatching ? "folders came that are about to be watched" : undefined;
  }

  /** Begins to listen; resolves when everything from now on is heard (or when it is clear that it will not be). */
  async open(): Promise<void> {
    this.#isFirst = true;
    this.#ready = deferred<undefined>();
    this.#unwatchActors ??= this.#options.actors?.watch(this.root.folder);
    const native = this.#options.native;
    if (this.earless !== undefined || native === undefined) {
      this.#startPolling();
      return;
    }
    const handle = native.watch(this.root.folder, this.root.shallow, {
      changed: (heard) => {
        if (this.#handle === handle) this.#hooks.changed(heard);
      },
      armed: () => {
        if (this.#handle === handle) this.#armed();
      },
      deaf: (reason, isOver) => {
        if (this.#handle === handle) this.#deaf(reason, isOver);
      },
      uprooted: () => {
        if (this.#handle === handle) this.#uprooted();
      },
    });
    this.#handle = handle;
    const limit = this.#options.clock.after(FIRST_ARM_MAX_MS, () => this.#ready.resolve(undefined));
    await this.#ready.promise;
    limit.cancel();
  }

  /** Stops listening. What these ears missed is theirs: whoever opens new ones looks through everything anyway. */
  close(): void {
    this.#unwatchActors?.();
    this.#unwatchActors = undefined;
    this.#handle?.close();
    this.#handle = undefined;
    this.#isDeaf = false;
    this.#deafCount += 1;
    this.#retryMs = RETRY_MIN_MS;
    this.#hooks.degraded(undefined);
    for (const timer of [this.#poll, this.#retry, this.#rewatchTimer]) timer?.cancel();
    this.#poll = this.#retry = this.#rewatchTimer = undefined;
    this.#unwatched.clear();
    this.#asked = [];
    this.#isRewatching = false;
    this.#ready.resolve(undefined);
  }

  /** A folder came that may hold folders nobody watches: ears are set anew, then it is looked at again. */
  foundUnwatched(folder: BytePath): void {
    if (this.#handle === undefined || this.root.shallow) return;
    this.#rewatchFor(folder);
  }

  /** The root was moved or removed, and its ears with it. When it is there again already, nobody else would notice. */
  #uprooted(): void {
    this.#rewatchFor(this.root.folder);
  }

  #rewatchFor(folder: BytePath): void {
    this.#unwatched.add(this.#unwatched.size < RECHECK_MAX ? folder : this.root.folder);
    this.#scheduleRewatch();
  }

  /** What stands at the root's path now, compared with what stood there before. */
  judge(mounts: readonly Mount[]): RootVerdict {
    return judgeRoot(this.root.folder, this.identity, mounts);
  }

  #scheduleRewatch(): void {
    if (this.#isRewatching || this.#rewatchTimer !== undefined) return;
    const { clock } = this.#options;
    const waitMs = Math.max(1, this.#askedMs + REWATCH_PAUSE_MS - clock.monotonicMs());
    this.#rewatchTimer = clock.after(waitMs, () => {
      this.#rewatchTimer = undefined;
      this.#isRewatching = true;
      this.#askedMs = clock.monotonicMs();
      this.#asked = [...this.#unwatched];
      this.#unwatched.clear();
      this.#handle?.rewatch(this.#asked.includes(this.root.folder) ? undefined : this.#asked);
    });
  }

  #armed(): void {
    this.#isRewatching = false;
    this.#retryMs = RETRY_MIN_MS;
    this.#askedMs = this.#options.clock.monotonicMs();
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#ready.resolve(undefined);
      return;
    }
    if (this.#isDeaf) {
      this.#stopPolling();
      void this.#catchUp("the watcher is back");
      return;
    }
    const folders = this.#asked;
    this.#asked = [];
    if (this.#unwatched.size > 0) this.#scheduleRewatch(); // what came meanwhile
    if (folders.length === 0) return;
    if (folders.includes(this.root.folder)) void this.#hooks.reconcile(this.root.folder, "new_folders");
    else this.#hooks.recheck(folders);
  }

  #deaf(reason: string, isOver: boolean): void {
    this.#hooks.degraded(reason);
    this.#isRewatching = false;
    this.#deafCount += 1;
    if (isOver) {
      void this.#catchUp(reason);
      return;
    }
    this.#isDeaf = true;
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#ready.resolve(undefined);
    }
    this.#startPolling();
    this.#retry?.cancel();
    this.#retry = this.#options.clock.after(this.#retryMs, () => {
      if (this.#isDeaf) this.#handle?.rewatch();
    });
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2);
  }

  /** What was missed is found by looking; only then the ears are trusted again. */
  async #catchUp(reason: string): Promise<void> {
    const deafCount = this.#deafCount;
    await this.#hooks.reconcile(this.root.folder, reasonLabel(reason));
    if (this.#handle === undefined || this.#deafCount !== deafCount) return; // closed, or deaf anew: its end is told
    this.#isDeaf = false;
    this.#stopPolling();
    this.#hooks.degraded(undefined);
  }

  #startPolling(): void {
    this.#poll ??= this.#options.clock.every(this.#options.pollMs, () => {
      void this.#hooks.reconcile(this.root.folder, "poll");
    });
  }

  #stopPolling(): void {
    if (this.earless !== undefined) return;
    this.#poll?.cancel();
    this.#poll = undefined;
  }
}

/** A metric's label must come from a small set. */
function reasonLabel(reason: string): string {
  if (reason.includes("back")) return "restarted";
  return reason.includes("late") ? "late" : "overflow";
}
