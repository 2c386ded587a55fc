/**
 * Owners of resources. A `ResourceStack` closes what it was given in reverse order, waits for each, and reports every
 * failure. Node 20 has no AsyncDisposableStack; this is the part of it that holdfast needs.
 */

export type CloseFunction = () => PromiseLike<void> | void;

export class ResourceStack implements AsyncDisposable {
  #closers: CloseFunction[] = [];

  /** Takes ownership of a disposable and gives it back. */
  use<T extends AsyncDisposable>(resource: T): T {
    this.#closers.push(() => resource[Symbol.asyncDispose]());
    return resource;
  }

  /** Runs `close` when the stack is disposed. */
  defer(close: CloseFunction): void {
    this.#closers.push(close);
  }

  /** Hands everything owned to a new stack; this one is empty afterwards. */
  move(): ResourceStack {
    const next = new ResourceStack();
    next.#closers = this.#closers;
    this.#closers = [];
    return next;
  }

  /** Closes all in reverse order; goes on after a failure and throws an AggregateError at the end. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (let close = this.#closers.pop(); close !== undefined; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === 1) throw failures[0];
    if (failures.length > 1) throw new AggregateError(failures, "closing resources failed");
  }
}
