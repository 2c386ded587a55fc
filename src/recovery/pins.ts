/**
 * Pins: open descriptors on the files of critical sources. Linux keeps a file's content until the last descriptor is
 * closed, so what is deleted or replaced is still in our hands, with every byte that was written after the last backup.
 * A pin does not help against a write into the file itself, and it is gone when the daemon ends.
 *
 * Pins must do no harm: only files on the file systems of the state folder and of `/` are held, for a held file keeps
 * its disk from being unmounted; a file without a name is let go after a while, for it takes space; and descriptors are
 * bounded by what the process may open.
 */
import { type BigIntStats, closeSync, fstatSync, lstatSync, readFileSync, readSync, readlinkSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Clock } from "../base/clock.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { EventBus } from "../base/events.js";
import { ResourceStack } from "../base/lifecycle.js";
import type { Gauge, Observer } from "../base/observe.js";
import { type BytePath, pathFromBytes, pathFromText } from "../base/paths.js";
import { reach } from "../base/reach.js";
import { openToKeep } from "./open-to-keep.js";

/** Files that are pinned at most, whatever the process may open. */
const PINS_MAX = 4096;
/** Share of the descriptors that the process may open. */
const DESCRIPTOR_SHARE = 0.25;
const DESCRIPTORS_DEFAULT = 1024;
/** How often pins are looked at, ms. */
const LOOK_EVERY_MS = 60_000;
/** A file without a name is held this long, ms, */
const NAMELESS_MS = 15 * 60_000;
/** and all of them together take this much space at most, bytes. */
const NAMELESS_BYTES_MAX = 2 ** 30;
const READ_BYTES = 256 * 2 ** 10;
/** Files pinned in one go before others get their turn. */
const SLICE_FILES = 200;

/** A held file. */
export interface PinnedFile {
  readonly stat: BigIntStats;
  /** The name it has now; undefined when it has none. */
  readonly nameNow: BytePath | undefined;
  /** Its bytes from the start, as often as asked while it is held. Throws NOT_FOUND when it was let go. */
  read(signal: AbortSignal): AsyncIterable<Buffer>;
}

/** Who asks for held files. */
export interface PinReader {
  /** The file that was held for the path; undefined when none is. */
  pinOf(path: BytePath): PinnedFile | undefined;
}

/** For where nothing is pinned. */
export const NO_PINS: PinReader = { pinOf: () => undefined };

export interface PinsOptions {
  readonly clock: Clock;
  readonly observer: Observer;
  readonly bus: EventBus;
  /** True for sources whose files are held. */
  readonly isCritical: (source: string) => boolean;
  /** The stored regular files of a source. */
  readonly filesOf: (source: string) => AsyncIterable<BytePath>;
  readonly stateDir: string;
  /** Instead of what the process may open. */
  readonly pinsMax?: number;
}

interface Pin {
  readonly source: string;
  readonly fd: number;
  readonly dev: bigint;
  readonly ino: bigint;
  /** Since when it is seen without a name, steady ms. */
  namelessSinceMs?: number;
}

export class Pins implements PinReader, AsyncDisposable {
  readonly #options: PinsOptions;
  readonly #pins = new Map<BytePath, Pin>();
  readonly #devices: ReadonlySet<bigint>;
  readonly #pinsMax: number;
  readonly #count: Gauge;
  readonly #resources = new ResourceStack();
  readonly #stop = new AbortController();
  #isFullTold = false;
  #filling: Promise<void> = Promise.resolve();

  constructor(options: PinsOptions) {
    this.#options = options;
    this.#devices = new Set(["/", options.stateDir].flatMap((path) => deviceOf(path)));
    this.#pinsMax = options.pinsMax ?? Math.min(PINS_MAX, Math.floor(descriptorsMax() * DESCRIPTOR_SHARE));
    this.#count = options.observer.gauge({
      name: "holdfast_recovery_pinned_files",
      help: "Files of critical sources that are held open, so that nothing of them is lost when they are deleted.",
    });
    this.#count.set(0);
    const { bus, clock } = options;
    this.#resources.defer(bus.on("watch.ready", ({ source }) => this.#fill(source)));
    this.#resources.defer(
      bus.on("commit.durable", ({ source, paths }) => {
        if (options.isCritical(source)) for (const path of paths) this.#pin(source, path);
      }),
    );
    this.#resources.defer(bus.on("file.removed", ({ path }) => this.#release(path)));
    const looking = clock.every(LOOK_EVERY_MS, () => this.look());
    this.#resources.defer(() => looking.cancel());
  }

  /** Files that are held now. */
  get size(): number {
    return this.#pins.size;
  }

  /** Resolves when the files of every source that is ready are held. */
  async settled(): Promise<void> {
    await this.#filling;
  }

  pinOf(path: BytePath): PinnedFile | undefined {
    const pin = this.#pins.get(path);
    if (pin === undefined) return undefined;
    const stat = fstatSync(pin.fd, { bigint: true });
    return {
      stat,
      nameNow: stat.nlink === 0n ? undefined : nameOfDescriptor(pin.fd),
      read: (signal) => this.#read(path, pin, signal),
    };
  }

  /** Lets go what has been without a name for too long, takes too much space, or is no critical source's any more. */
  look(): void {
    const nowMs = this.#options.clock.monotonicMs();
    let namelessBytes = 0;
    for (const [path, pin] of [...this.#pins]) {
      const stat = fstatSync(pin.fd, { bigint: true });
      if (stat.nlink > 0n) {
        delete pin.namelessSinceMs;
        if (!this.#options.isCritical(pin.source)) this.#release(path);
        continue;
      }
      pin.namelessSinceMs ??= nowMs;
      namelessBytes += Number(stat.blocks) * 512;
      if (nowMs - pin.namelessSinceMs >= NAMELESS_MS || namelessBytes > NAMELESS_BYTES_MAX) this.#release(path);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new HoldfastError("INTERRUPTED", "the pins are let go"));
    await this.#resources[Symbol.asyncDispose]();
    await this.#filling;
    for (const path of [...this.#pins.keys()]) this.#release(path);
  }

  #fill(source: string): void {
    if (!this.#options.isCritical(source)) return;
    this.#filling = this.#filling
      .then(() => this.#fillFrom(source))
      .catch((error: unknown) => {
        if (!this.#stop.signal.aborted)
          this.#options.observer.log.warn("pins.failed", { source, message: messageOf(error) });
      });
  }

  async #fillFrom(source: string): Promise<void> {
    let count = 0;
    for await (const path of this.#options.filesOf(source)) {
      this.#stop.signal.throwIfAborted();
      this.#pin(source, path);
      count += 1;
      if (count % SLICE_FILES === 0) await nextTurn();
    }
  }

  /** Holds what stands at the path now instead of what was held for it. */
  #pin(source: string, path: BytePath): void {
    const held = this.#pins.get(path);
    const stat = statOf(path);
    if (stat?.isFile() !== true) return; // gone already: what is held is what is wanted
    if (held?.dev === stat.dev && held.ino === stat.ino) return;
    if (!this.#devices.has(stat.dev)) return;
    if (held === undefined && this.#pins.size >= this.#pinsMax) {
      this.#tellFull(source);
      return;
    }
    const fd = openToKeep(path);
    if (fd === undefined) return;
    const opened = fstatSync(fd, { bigint: true });
    if (!opened.isFile() || opened.ino !== stat.ino || opened.dev !== stat.dev) {
      closeSync(fd);
      return;
    }
    this.#release(path);
    this.#pins.set(path, { source, fd, dev: opened.dev, ino: opened.ino });
    this.#count.set(this.#pins.size);
  }

  #release(path: BytePath): void {
    const pin = this.#pins.get(path);
    if (pin === undefined) return;
    this.#pins.delete(path);
    closeSync(pin.fd);
    this.#count.set(this.#pins.size);
  }

  async *#read(path: BytePath, pin: Pin, signal: AbortSignal): AsyncIterable<Buffer> {
    for (let position = 0; ;) {
      signal.throwIfAborted();
      // The number of a descriptor that was let go may mean another file already.
      if (this.#pins.get(path) !== pin) throw new HoldfastError("NOT_FOUND", "the file is held no more");
      const part = Buffer.allocUnsafe(READ_BYTES);
      const length = readSync(pin.fd, part, 0, READ_BYTES, position);
      if (length === 0) return;
      position += length;
      yield part.subarray(0, length);
      await nextTurn();
    }
  }

  #tellFull(source: string): void {
    if (this.#isFullTold) return;
    this.#isFullTold = true;
    this.#options.observer.log.warn("pins.full", { source, limit: this.#pinsMax });
  }
}

function statOf(path: BytePath): BigIntStats | undefined {
  try {
    return reach(path, (place) => lstatSync(place, { bigint: true }));
  } catch {
    return undefined;
  }
}

function nameOfDescriptor(fd: number): BytePath | undefined {
  try {
    return pathFromBytes(readlinkSync(`/proc/self/fd/${String(fd)}`, "buffer"));
  } catch {
    return undefined;
  }
}

function deviceOf(path: string): readonly bigint[] {
  const stat = statOf(pathFromText(path));
  return stat === undefined ? [] : [stat.dev];
}

/** How many descriptors the process may have open. */
function descriptorsMax(): number {
  try {
    const found = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return found === undefined ? DESCRIPTORS_DEFAULT : Number(found);
  } catch {
    return DESCRIPTORS_DEFAULT;
  }
}
