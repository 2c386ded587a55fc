/**
 * The watcher child: a process of its own, so that a crash or a leak in native code never takes the daemon along. It
 * passes on which paths something happened to, nothing else, and ends when the daemon is gone.
 */
import { systemClock } from "../../base/clock.js";
import { messageOf } from "../../base/errors.js";
import { inotifyCalls } from "../../base/native-inotify.js";
import type { Ear, Ears, HeardEvent } from "./ear-port.js";
import { Fences } from "./fences.js";
import { KernelEars } from "./kernel-ears.js";
import { ParcelEars } from "./parcel-ears.js";
import { MESSAGES_WAITING_MAX, MESSAGE_PATHS_MAX, PULSE_ID, type WatchOrder, type WatchReport } from "./protocol.js";

class WatchedRoot {
  readonly #id: number;
  readonly #root: string;
  readonly #shallow: boolean;
  #ear: Ear | undefined;
  #closed = false;
  #isFlooded = false;
  #work: Promise<void> = Promise.resolve();

  constructor(id: number, root: string, shallow: boolean) {
    this.#id = id;
    this.#root = root;
    this.#shallow = shallow;
  }

  /** Listens, or listens anew; one after another. */
  arm(folders?: readonly string[]): void {
    this.#work = this.#work.then(async () => await this.#arm(folders));
  }

  /** The kernel dropped events: folders may have come or been renamed unheard, so it listens anew before that is told. */
  flooded(): void {
    if (this.#isFlooded) return;
    this.#isFlooded = true;
    this.#work = this.#work.then(async () => {
      this.#isFlooded = false;
      await this.#arm();
      send({ type: "overflow", id: this.#id, reason: "the kernel's queue of events ran over" });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
    await this.#ear?.close();
  }

  async #arm(folders?: readonly string[]): Promise<void> {
    if (this.#closed) return;
    try {
      if (this.#ear === undefined) this.#ear = await this.#listen();
      else await this.#ear.renew(folders);
      send({ type: "armed", id: this.#id });
    } catch (error) {
      this.#failed(messageOf(error));
    }
  }

  async #listen(): Promise<Ear> {
    return await ears.listen(this.#root, this.#shallow, {
      heard: (events) => this.#pass(events),
      failed: (message) => this.#failed(message),
    });
  }

  #failed(message: string): void {
    send({ type: "failed", id: this.#id, message });
  }

  #pass(events: readonly HeardEvent[]): void {
    if (this.#closed) return;
    if (this.#id === PULSE_ID) fences.heard(events.map(({ path }) => path));
    if (events.length > ears.batchMax)
      send({ type: "overflow", id: this.#id, reason: `${String(events.length)} changes at once` });
    if (events.some(({ type, path }) => type === "delete" && path === this.#root))
      send({ type: "uprooted", id: this.#id });
    const heardAtMs = systemClock.nowMs();
    for (let start = 0; start < events.length; start += MESSAGE_PATHS_MAX) {
      const part = events.slice(start, start + MESSAGE_PATHS_MAX);
      const counts = { create: 0, update: 0, delete: 0 };
      for (const event of part) counts[event.type] += 1;
      pass({ type: "events", id: this.#id, paths: part.map(({ path }) => path), counts, heardAtMs });
    }
  }
}

const roots = new Map<number, WatchedRoot>();
const overflowed = new Set<number>();
let waiting = 0;
const ears = await openEars(() => {
  for (const root of roots.values()) root.flooded();
});
const fences = new Fences(async () => await ears.settle());

/** The kernel itself where it can be asked. */
async function openEars(onFlood: () => void): Promise<Ears> {
  const calls = inotifyCalls();
  return calls === undefined ? await ParcelEars.load(onFlood) : new KernelEars(calls, onFlood);
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
    roots.get(order.id)?.arm(order.folders);
  } else if (order.type === "fence") {
    const { fence, folder } = order;
    try {
      fences.raise(folder, fence, () => {
        send({ type: "fenced", fence, floods: overflowed.size === 0 ? ears.floods() : undefined });
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
const end = (): boolean => process.kill(process.pid, "SIGKILL");
process.on("disconnect", end);
if (!process.connected) end(); // the daemon went while this process began: nobody tells that any more
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => undefined); // the daemon decides
