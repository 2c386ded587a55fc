/**
 * The end of the daemon by an error that nobody caught. What its parts hold in memory can be trusted no more, so nothing
 * is finished or closed in order: it says what happened, with the stack, and ends; the service manager starts it anew
 * from what is durable. What was acknowledged is on disk by then, as after a power cut.
 */
import { EXIT } from "../base/error-codes.js";
import { asHoldfastError } from "../base/errors.js";
import type { Log } from "../telemetry/logger.js";

/** Where Node tells of such errors: `process`. */
export type ErrorTeller = Pick<NodeJS.Process, "on" | "off">;

/** Ends the daemon at the first error that nobody caught, thrown or as a rejected promise. */
export class UncaughtErrors implements AsyncDisposable {
  readonly #teller: ErrorTeller;
  readonly #log: Log;
  readonly #exit: (exitCode: number) => void;
  #isEnding = false;

  /** `exit` is called once, when the log has been written (2 s at most). */
  constructor(teller: ErrorTeller, log: Log, exit: (exitCode: number) => void) {
    this.#teller = teller;
    this.#log = log;
    this.#exit = exit;
    teller.on("uncaughtException", this.#onError);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#teller.off("uncaughtException", this.#onError);
    await Promise.resolve();
  }

  /** Rejections come here too: Node throws what nobody handles. */
  readonly #onError = (error: unknown, origin: NodeJS.UncaughtExceptionOrigin): void => {
    const { code, message } = asHoldfastError(error);
    const stack = error instanceof Error ? error.stack : undefined;
    const cause = error instanceof Error ? error.cause : undefined;
    this.#log.error("daemon.crashed", { fatal: true, origin, code, message, stack, cause });
    if (this.#isEnding) return;
    this.#isEnding = true;
    const end = (): void => this.#exit(EXIT.failed);
    void this.#log[Symbol.asyncDispose]().then(end, end);
  };
}
