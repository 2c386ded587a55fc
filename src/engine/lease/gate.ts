/** A gate that many pass together and one passes alone; whoever wants to be alone goes before those who come later. */

export class Gate {
  #inside = 0;
  #alone = false;
  readonly #waiting: { readonly alone: boolean; readonly enter: () => void }[] = [];

  /** Runs together with other `shared` work. */
  async shared<T>(work: () => Promise<T>): Promise<T> {
    return await this.#run(false, work);
  }

  /** Runs with nothing else inside. */
  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    return await this.#run(true, work);
  }

  async #run<T>(alone: boolean, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || this.#alone || (alone && this.#inside > 0)) {
      await new Promise<void>((enter) => this.#waiting.push({ alone, enter }));
    } else {
      this.#enter(alone);
    }
    try {
      return await work();
    } finally {
      this.#leave(alone);
    }
  }

  #enter(alone: boolean): void {
    this.#inside += 1;
    this.#alone = alone;
  }

  #leave(alone: boolean): void {
    this.#inside -= 1;
    if (alone) this.#alone = false;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#alone || (next.alone && this.#inside > 0)) return;
      this.#waiting.shift();
      this.#enter(next.alone);
      next.enter();
    }
  }
}

/** Locks on sets of names: a caller waits for all who came before it and share a name. No set can block another for ever. */
export class NameLocks {
  readonly #tails = new Map<string, Promise<void>>();

  async run<T>(names: readonly string[], work: () => Promise<T>): Promise<T> {
    const before = names.map((name) => this.#tails.get(name)).filter((tail) => tail !== undefined);
    let release = (): void => undefined;
    const done = new Promise<void>((resolve) => {
      release = resolve;
    });
    // Taken for all names at once, so the order of arrival is the same for every name.
    const tail = Promise.all([done, ...before]).then(() => undefined);
    for (const name of names) this.#tails.set(name, tail);
    try {
      await Promise.all(before);
      return await work();
    } finally {
      release();
      for (const name of names) if (this.#tails.get(name) === tail) this.#tails.delete(name);
    }
  }
}
