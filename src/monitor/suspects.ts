/**
 * Files that somebody else found other than they are registered, such as a backup that read them all: each is looked at
 * again as the background reading does, which decides whether it is damage.
 */
import { messageOf } from "../base/errors.js";
import { type BytePath, pathText } from "../base/paths.js";
import type { SourceGuard } from "./guard.js";
import { checkPath } from "./integrity.js";

/** Beyond, the background reading finds them. */
const WAITING_MAX = 10_000;
/** Each waits a second between its two readings. */
const AT_ONCE = 8;

interface Suspect {
  readonly guard: SourceGuard;
  readonly path: BytePath;
}

export class Suspects implements AsyncDisposable {
  readonly #waiting: Suspect[] = [];
  #running: Promise<void> | undefined;

  /** Notes a path; it is read soon. */
  add(suspect: Suspect): void {
    if (this.#waiting.length >= WAITING_MAX) return;
    this.#waiting.push(suspect);
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  /** Forgets what waits and ends what is read; the guards' signals are aborted before. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#waiting.length = 0;
    await this.#running;
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const lot = this.#waiting.splice(0, AT_ONCE);
      await Promise.all(lot.map(async (suspect) => await check(suspect)));
    }
  }
}

async function check({ guard, path }: Suspect): Promise<void> {
  const { shared, name, signal } = guard.context;
  const record = shared.registry.get(name, path);
  if (record === undefined) return;
  try {
    await checkPath(guard, { path, record }, "scrub", signal);
  } catch (error) {
    if (signal.aborted) return;
    shared.log.warn("scrub.failed", { source: name, path: pathText(path), message: messageOf(error) });
  }
}
