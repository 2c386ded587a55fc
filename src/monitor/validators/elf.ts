/** Check of structure: ELF. The tables of segments and sections, and what they point to, must lie within the file. */
import type { Complaint, Validator } from "../validator.js";
import { invalid } from "./invalid.js";

const NO_BITS = 8;
const STRINGS = 3;

export const elfValidator: Validator = {
  name: "elf",
  check: (content) => {
    if (content.toString("latin1", 0, 4) !== "\x7fELF") return invalid("it does not begin as ELF");
    const isWide = content[4] === 2;
    const isLittle = content[5] === 1;
    if ((!isWide && content[4] !== 1) || (!isLittle && content[5] !== 2)) return invalid("the ELF header is broken");
    try {
      return checkTables(content, new Reader(content, isWide, isLittle));
    } catch {
      return invalid("the ELF header leads outside the file"); // a read beyond the end
    }
  },
};

/** Numbers of an ELF file at the offsets of its class: [32 bits, 64 bits]. Throws RangeError outside. */
class Reader {
  readonly #content: Buffer;
  readonly isWide: boolean;
  readonly #isLittle: boolean;

  constructor(content: Buffer, isWide: boolean, isLittle: boolean) {
    this.#content = content;
    this.isWide = isWide;
    this.#isLittle = isLittle;
  }

  half(at: number): number {
    return this.#isLittle ? this.#content.readUInt16LE(at) : this.#content.readUInt16BE(at);
  }

  word(at: number): number {
    return this.#isLittle ? this.#content.readUInt32LE(at) : this.#content.readUInt32BE(at);
  }

  address(at: number): number {
    if (!this.isWide) return this.word(at);
    return Number(this.#isLittle ? this.#content.readBigUInt64LE(at) : this.#content.readBigUInt64BE(at));
  }
}

interface Table {
  readonly at: number;
  readonly each: number;
  readonly count: number;
}

/** Where the fields stand, for 64 and for 32 bits. */
const WIDE = {
  segments: [32, 54, 56],
  sections: [40, 58, 60],
  names: 62,
  segment: [8, 32],
  section: [24, 32],
} as const;
const NARROW = {
  segments: [28, 42, 44],
  sections: [32, 46, 48],
  names: 50,
  segment: [4, 16],
  section: [16, 20],
} as const;

function checkTables(content: Buffer, elf: Reader): Complaint | undefined {
  const fields = elf.isWide ? WIDE : NARROW;
  const table = ([at, each, count]: readonly [number, number, number]): Table => ({
    at: elf.address(at),
    each: elf.half(each),
    count: elf.half(count),
  });
  const [segments, sections] = [table(fields.segments), table(fields.sections)];
  const isOutside = ({ at, each, count }: Table): boolean => count > 0 && at + each * count > content.length;
  if (isOutside(segments) || isOutside(sections)) return invalid("an ELF table lies outside the file");
  const end = (at: number, [offset, size]: readonly [number, number]): number =>
    elf.address(at + offset) + elf.address(at + size);
  for (const at of rows(segments))
    if (end(at, fields.segment) > content.length) return invalid("an ELF segment lies outside the file");
  for (const at of rows(sections))
    if (elf.word(at + 4) !== NO_BITS && end(at, fields.section) > content.length)
      return invalid("an ELF section lies outside the file");
  const names = elf.half(fields.names);
  const isNamed = names === 0 || names >= sections.count;
  return isNamed || elf.word(sections.at + names * sections.each + 4) === STRINGS
    ? undefined
    : invalid("the ELF section names are broken");
}

function rows({ at, each, count }: Table): readonly number[] {
  return Array.from({ length: count }, (_none, index) => at + index * each);
}
