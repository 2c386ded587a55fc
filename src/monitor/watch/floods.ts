/**
 * Whether the kernel may have dropped events: when more wait than its queue holds, what follows is gone, and the native
 * part passes over the mark that tells so. But all that waited is read then, and how many bytes this process read is
 * known: fewer than a full queue has, and nothing was dropped.
 */
import { readFileSync } from "node:fs";

/** An event takes this much at least; one with a name takes more. */
const EVENT_BYTES_MIN = 16;
/** A full queue is read within two of these windows, ms; a watcher that takes longer is late, which the pulse tells. */
const WINDOW_MS = 1000;

export class Floods implements Disposable {
  readonly #fullBytes: number;
  #count = 0;
  readonly #onFlood: () => void;
  readonly #timer: NodeJS.Timeout;
  /** Bytes read at the beginnings of the last windows, oldest first. */
  #marks: readonly number[];

  /** `onFlood`: from the beginning of the last window on, events may have been dropped. */
  constructor(onFlood: () => void) {
    this.#onFlood = onFlood;
    const events = numberIn("/proc/sys/fs/inotify/max_queued_events", /^(\d+)/);
    this.#fullBytes = (events ?? 0) * EVENT_BYTES_MIN; // unknown: every moment counts as one
    this.#marks = [this.#readBytes()];
    this.#timer = setInterval(() => this.#look(), WINDOW_MS).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  /** How often, until now, as much was read at once as a full queue holds. */
  count(): number {
    this.#look(false);
    return this.#count;
  }

  #look(isEnd = true): void {
    const now = this.#readBytes();
    const [oldest] = this.#marks;
    if (oldest !== undefined && !(now - oldest < this.#fullBytes)) {
      this.#count += 1;
      this.#marks = [now];
      this.#onFlood();
    } else if (isEnd) {
      this.#marks = [...this.#marks.slice(-1), now];
    }
  }

  /** NaN where the system does not tell: it is below nothing. */
  #readBytes(): number {
    return numberIn("/proc/self/io", /^rchar: (\d+)/) ?? NaN;
  }
}

function numberIn(file: string, pattern: RegExp): number | undefined {
  try {
    const found = pattern.exec(readFileSync(file, "latin1"))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    return undefined;
  }
}
