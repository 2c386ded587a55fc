/**
 * Ears by @parcel/watcher (inotify), for where the kernel cannot be asked otherwise (`kernel-ears.ts`).
 *
 * The native tree of a subscription is cached by the root's name. A second subscription of the same root therefore
 * uses another name of the same folder (`/proc/self/root/...`), which makes it walk the tree anew: make before break.
 */
import type watcher from "@parcel/watcher";
import { setImmediate as turn, setTimeout as delay } from "node:timers/promises";
import type { Ear, EarHooks, Ears, HeardEvent } from "./ear-port.js";
import { Floods } from "./floods.js";

type Watcher = typeof watcher;

const ALIAS = "/proc/self/root";
/** How long an old subscription stays beside its successor: it may hold events that are not delivered yet, ms. */
const RETIRE_MS = 1500;
/** Tries of one subscription; a folder that goes away meanwhile makes it fail (17 % under churn). */
const SUBSCRIBE_TRIES = 5;
const SUBSCRIBE_PAUSE_MS = 50;
/** A batch of more paths than this is taken as a sign that the kernel's queue ran over. */
const BATCH_PATHS_MAX = 4000;
/** Where nothing is subscribed. */
const NOWHERE = "/";

interface Subscription {
  readonly name: string;
  readonly subscription: watcher.AsyncSubscription;
}

export class ParcelEars implements Ears {
  readonly batchMax = BATCH_PATHS_MAX;
  readonly #watcher: Watcher;
  readonly #floods: Floods;
  readonly #namesInUse = new Set<string>();

  private constructor(native: Watcher, onFlood: () => void) {
    this.#watcher = native;
    this.#floods = new Floods(onFlood);
  }

  /** `onFlood`: the kernel may have dropped events. */
  static async load(onFlood: () => void): Promise<ParcelEars> {
    return new ParcelEars((await import("@parcel/watcher")).default, onFlood);
  }

  async listen(root: string, shallow: boolean, hooks: EarHooks): Promise<Ear> {
    let current = await this.#subscribe(root, shallow, hooks);
    return {
      renew: async () => {
        const old = current;
        // The root of all has no second name that is a folder: here the gap is closed by the look afterwards.
        if (root === "/") await this.#hangUp(old);
        current = await this.#subscribe(root, shallow, hooks);
        if (root !== "/") void delay(RETIRE_MS).then(() => this.#hangUp(old));
      },
      close: async () => await this.#hangUp(current),
    };
  }

  floods(): number {
    return this.#floods.count();
  }

  /**
   * An event may be given to us a moment before others of the same delivery. A delivery holds the watcher's lock, which
   * every call of its interface takes: after one it is over, and two turns later all is here.
   */
  async settle(): Promise<void> {
    await this.#watcher.unsubscribe(NOWHERE, () => undefined, { backend: "inotify" });
    await turn();
    await turn();
  }

  async #subscribe(root: string, shallow: boolean, hooks: EarHooks): Promise<Subscription> {
    const name = this.#freeName(root);
    this.#namesInUse.add(name);
    const ignore = shallow ? [belowFolders(name)] : [];
    for (let attempt = 1; ; attempt += 1) {
      try {
        const subscription = await this.#watcher.subscribe(
          name,
          (error, events) => {
            if (error === null) hooks.heard(events.map((event) => named(event, name, root)));
            else hooks.failed(error.message);
          },
          { backend: "inotify", ignore },
        );
        return { name, subscription };
      } catch (error) {
        if (attempt >= SUBSCRIBE_TRIES) {
          this.#namesInUse.delete(name);
          throw error;
        }
        await delay(SUBSCRIBE_PAUSE_MS * attempt);
      }
    }
  }

  /** The root itself or another name of it that no subscription uses. */
  #freeName(root: string): string {
    let name = root;
    while (this.#namesInUse.has(name) && root !== "/") name = ALIAS + name;
    return name;
  }

  async #hangUp({ name, subscription }: Subscription): Promise<void> {
    this.#namesInUse.delete(name);
    try {
      await subscription.unsubscribe();
    } catch {
      // The folder is gone and its watches with it.
    }
  }
}

/** An event below the name of a subscription, below the root. */
function named(event: HeardEvent, name: string, root: string): HeardEvent {
  return { type: event.type, path: root + event.path.slice(name === "/" ? 1 : name.length) };
}

/** Everything below the folders in `folder`: they are seen, what is in them is not. */
function belowFolders(folder: string): RegExp {
  const escaped = folder.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  return new RegExp(`^${folder === "/" ? "" : escaped}\\/[^\\/]+\\/.*$`);
}
