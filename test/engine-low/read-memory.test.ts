/** The memory that restores read into: what is kept stays what it was, and it does not grow. */
import { expect } from "chai";
import { ReadMemory } from "../../src/engine/restore/read-memory.js";
import { noise } from "../support/engine-keys.js";

const MIB = 2 ** 20;

function keep(memory: ReadMemory, offsetBytes: number, content: Buffer): Buffer {
  return memory.keep({ object: 0, offsetBytes }, content.length, (room) => {
    room.set(content);
    return room.subarray(0, content.length);
  });
}

describe("memory for reading the store", () => {
  it("gives the last eight records as they were opened, and asks for the others again", () => {
    const memory = new ReadMemory();
    const contents = Array.from({ length: 12 }, (_, index) => noise(1000 + index));
    for (const [index, content] of contents.entries()) keep(memory, index, content);
    for (const [index, content] of contents.entries()) {
      const known = memory.known({ object: 0, offsetBytes: index });
      if (index < 4) expect(known).to.equal(undefined);
      else expect(known?.equals(content), `record ${String(index)}`).to.equal(true);
    }
  });

  it("keeps the record that is used again and again, whatever comes between", () => {
    const memory = new ReadMemory();
    const often = noise(500);
    keep(memory, 0, often);
    for (let index = 1; index < 40; index += 1) {
      keep(memory, index, noise(100));
      expect(memory.known({ object: 0, offsetBytes: 0 })?.equals(often)).to.equal(true);
    }
  });

  it("copies a record that is a view of the sealed bytes, which the next reading overwrites", () => {
    const memory = new ReadMemory();
    const sealed = memory.sealed.ofSize(100);
    sealed.fill(1);
    const kept = memory.keep({ object: 0, offsetBytes: 0 }, 100, () => sealed.subarray(0, 100));
    memory.sealed.ofSize(100).fill(2);
    expect(kept.every((byte) => byte === 1)).to.equal(true);
  });

  it("holds one large record at a time", () => {
    const memory = new ReadMemory();
    for (let index = 0; index < 4; index += 1) keep(memory, index, Buffer.alloc(4 * MIB, index));
    const held = [0, 1, 2, 3].map((offsetBytes) => memory.known({ object: 0, offsetBytes }) !== undefined);
    expect(held).to.deep.equal([false, false, false, true]);
  });

  it("has nothing of a record that could not be opened, nor of another batch", () => {
    const memory = new ReadMemory();
    const failing = (): never => {
      throw new Error("damaged");
    };
    expect(() => memory.keep({ object: 0, offsetBytes: 5 }, 10, failing)).to.throw("damaged");
    expect(memory.known({ object: 0, offsetBytes: 5 })).to.equal(undefined);
    keep(memory, 6, noise(10));
    memory.clear();
    expect(memory.known({ object: 0, offsetBytes: 6 })).to.equal(undefined);
  });
});
