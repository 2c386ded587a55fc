/**
 * The watcher child: a process of its own around @parcel/watcher, so that a crash or a leak in native code never takes
 * the daemon along. It passes on which paths something happened to, nothing else, and ends when the daemon is gone.
 *
 * The native tree of a subscription is cached by the root's name. A second subscription of the same root therefore
 * uses another name of the same folder (`/proc/self/root/...`), which makes it walk the tree anew: make before break.
 */
import watcher from "@parcel/watcher";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../base/errors.js";
import { Fences } from "./fences.js";
import { Floods } from "./floods.js";
import {
  BATCH_PATHS_MAX,
  MESSAGES_WAITING_MAX,
  MESSAGE_PATHS_MAX,
  PULSE_ID,
  RETIRE_MS,
  SUBSCRIBE_PAUSE_MS,
  SUBSCRIBE_TRIES,
  type WatchOrder,
  type WatchReport,
} from "./protocol.js";

const ALIAS = "/proc/self/root";

interface Ear {
  readonly name: string;
  readonly subscription: watcher.AsyncSubscription;
}

class WatchedRoot {
  readonly #id: number;
  readonly #root: string;
  readonly #shallow: boolean;
  #ear: Ear | undefined;
  #closed = false;
  #work: Promise<void> = Promise.resolve();

  constructor(id: number, root: string, shallow: boolean) {
    this.#id = id;
    this.#root = root;
    this.#shallow = shallow;
  }

  /** Subscribes, or subscribes anew beside the old subscription; one after another. */
  arm(): void {
    this.#work = this.#work.then(async () => {
      try {
        await this.#arm();
      } catch (error) {
        send({ type: "failed", id: this.#id, message: messageOf(error) });
      }
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
    await hangUp(this.#ear);
  }

  async #arm(): Promise<void> {
    if (this.#closed) return;
    const old = this.#ear;
    // The root of all has no second name that is a folder: here the gap is closed by the look afterwards.
    if (this.#root === "/") await hangUp(old);
    this.#ear = await this.#subscribe();
    send({ type: "armed", id: this.#id });
    if (old !== undefined && this.#root !== "/") void delay(RETIRE_MS).then(() => hangUp(old));
  }

  async #subscribe(): Promise<Ear> {
    const name = freeName(this.#root);
    namesInUse.add(name);
    const ignore = this.#shallow ? [belowFolders(name)] : [];
    for (let attempt = 1; ; attempt += 1) {
      try {
        const subscription = await watcher.subscribe(
          name,
          (error, events) => {
            if (error === null) this.#pass(name, events);
            else send({ type: "failed", id: this.#id, message: error.message });
          },
          { backend: "inotify", ignore },
        );
        return { name, subscription };
      } catch (error) {
        if (attempt >= SUBSCRIBE_TRIES) {
          namesInUse.delete(name);
          throw error;
        }
        await delay(SUBSCRIBE_PAUSE_MS * attempt);
      }
    }
  }

  #pass(name: string, events: readonly watcher.Event[]): void {
    if (this.#closed) return;
    if (this.#id === PULSE_ID) fences.heard(events.map(({ path }) => path));
    if (events.length > BATCH_PATHS_MAX)
      send({ type: "overflow", id: this.#id, reason: `${String(events.length)} changes at once` });
    if (events.some((event) => event.type === "delete" && event.path === name))
      send({ type: "uprooted", id: this.#id });
    for (let start = 0; start < events.length; start += MESSAGE_PATHS_MAX) {
      const part = events.slice(start, start + MESSAGE_PATHS_MAX);
      const counts = { create: 0, update: 0, delete: 0 };
      for (const event of part) counts[event.type] += 1;
      const paths = part.map((event) => this.#root + event.path.slice(name === "/" ? 1 : name.length));
      pass({ type: "events", id: this.#id, paths, counts });
    }
  }
}

const fences = new Fences();
const floods = new Floods();
const namesInUse = new Set<string>();
const roots = new Map<number, WatchedRoot>();
const overflowed = new Set<number>();
let waiting = 0;

/** The root itself or another name of it that no subscription uses. */
function freeName(root: string): string {
  let name = root;
  while (namesInUse.has(name) && root !== "/") name = ALIAS + name;
  return name;
}

/** Everything below the folders in `folder`: they are seen, what is in them is not. */
function belowFolders(folder: string): RegExp {
  const escaped = folder.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  return new RegExp(`^${folder === "/" ? "" : escaped}\\/[^\\/]+\\/.*$`);
}

async function hangUp(ear: Ear | undefined): Promise<void> {
  if (ear === undefined) return;
  namesInUse.delete(ear.name);
  try {
    await ear.subscription.unsubscribe();
  } catch {
    // The folder is gone and its watches with it.
  }
}

/** Sends events unless too much waits already; what is dropped is told as soon as there is room. */
function pass(report: WatchReport & { readonly type: "events" }): void {
  if (waiting >= MESSAGES_WAITING_MAX) overflowed.add(report.id);
  else send(report);
}

function send(report: WatchReport): void {
  if (process.send === undefined || !process.connected) return;
  waiting += 1;
  process.send(report, () => {
    waiting -= 1;
    if (waiting < MESSAGES_WAITING_MAX / 2 && overflowed.size > 0) {
      const ids = [...overflowed];
      overflowed.clear();
      for (const id of ids) send({ type: "overflow", id, reason: "the daemon could not keep up" });
    }
  });
}

function obey(order: WatchOrder): void {
  if (order.type === "watch") {
    const root = new WatchedRoot(order.id, order.root, order.shallow);
    roots.set(order.id, root);
    root.arm();
  } else if (order.type === "rewatch") {
    roots.get(order.id)?.arm();
  } else if (order.type === "fence") {
    const { fence, folder } = order;
    try {
      fences.raise(folder, fence, () => {
        send({ type: "fenced", fence, floods: overflowed.size === 0 ? floods.count() : undefined });
      });
    } catch {
      send({ type: "fenced", fence, floods: undefined }); // the folder of the pulse takes no file: nothing can be said
    }
  } else {
    const root = roots.get(order.id);
    roots.delete(order.id);
    void root?.close();
  }
}

process.on("message", (order) => obey(order as WatchOrder));
// Native threads would keep the process alive; the daemon is gone, so there is nothing left to tell.
process.on("disconnect", () => process.kill(process.pid, "SIGKILL"));
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => undefined); // the daemon decides
