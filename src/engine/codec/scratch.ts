/** Memory that is used again and again: fresh memory for each block costs more (page faults) than decrypting it. */

export class Scratch {
  readonly #least: number;
  #bytes = Buffer.alloc(0);

  /** It begins with room for `leastBytes` when it is first used, and grows to what is asked for. */
  constructor(leastBytes: number) {
    this.#least = leastBytes;
  }

  /** Memory of at least this many bytes; what it held is void. */
  ofSize(bytes: number): Buffer {
    if (bytes > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(Math.max(bytes, this.#least));
    return this.#bytes;
  }
}
