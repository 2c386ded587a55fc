/**
 * The files of a soak as they should be: what each activity leaves behind is noted here, so that at the end the disk, the
 * registry and the repository can be compared with what was meant. Paths are plain text; content is known by SHA-256.
 */
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Chance } from "./chance.js";

/** What was done to a file that nobody wanted done: it has to come back. */
export interface Harm {
  readonly path: string;
  /** Steady ms. */
  readonly sinceMs: number;
  readonly kind: string;
}

/** What stood at a path when it was seen to be back. */
interface PutBack {
  /** Steady ms. */
  readonly atMs: number;
  readonly ino: number;
  readonly mtimeMs: number;
}

const NOTES_OF_PATH_MAX = 12;
/** holdfast takes a deletion within 10 minutes after it put a file back as meant; a kill may make it look late, ms. */
const SECOND_DELETION_MS = 480_000;

export class World {
  readonly chance: Chance;
  readonly root: string;
  /** Every file that has to be there at the end, and its digest. */
  readonly files = new Map<string, string>();
  /** Harmed, and not yet seen to be back. */
  readonly harms = new Map<string, Harm>();
  /** Harmed once and healed, with what was put back: its next deletion soon after is meant. */
  readonly healed = new Map<string, PutBack>();
  /**
   * New names with the old ones, until both are known to be what they are: who renames a file and at once replaces or
   * removes the new name leaves nothing by which anybody could tell that the old one was not lost.
   */
  readonly renamed = new Map<string, string>();
  readonly healedAfterMs: number[] = [];
  /** Meant to go, and seen to be back before other work was done beside it. */
  readonly undone = new Set<string>();
  /** How often each path was harmed. */
  readonly harmCounts = new Map<string, number>();
  /** Content that the repository was seen to have. */
  readonly #stored = new Map<string, string>();
  readonly #meantToGo = new Set<string>();
  readonly #notes: { readonly atMs: number; readonly text: string }[] = [];
  #serial = 0;

  constructor(root: string, seed: number) {
    this.root = root;
    this.chance = new Chance(seed);
  }

  at(...names: string[]): string {
    return join(this.root, ...names);
  }

  /** Remembers what was done, for the report about a file that is not as it should be. */
  note(text: string): void {
    this.#notes.push({ atMs: performance.now(), text });
  }

  /** What was done to a path or around it, newest last. */
  historyOf(path: string): readonly string[] {
    const names = path.slice(this.root.length + 1).split("/");
    const area = names[0] ?? "";
    const around = new Set(names.slice(1).map((_name, index) => names.slice(0, index + 2).join("/")));
    const told = this.#notes.filter(
      ({ text }) => text.includes(`(all of ${area})`) || text.split(" ").some((word) => around.has(word)),
    );
    return told.slice(-NOTES_OF_PATH_MAX).map(({ atMs, text }) => `${(atMs / 1000).toFixed(2)} s ${text}`);
  }

  /** All that was done, for a log file. */
  story(): string {
    return this.#notes.map(({ atMs, text }) => `${(atMs / 1000).toFixed(3)} ${text}\n`).join("");
  }

  /** A number that was never given before. */
  next(): number {
    this.#serial += 1;
    return this.#serial;
  }

  /** Text that no other file has, and of no fixed length. */
  text(): string {
    const lines = this.chance.whole(2, 120);
    const words = Array.from(
      { length: lines },
      (_none, line) => `line ${String(line)} of ${String(this.next())} ${this.word()}`,
    );
    return `${words.join("\n")}\n`;
  }

  json(): string {
    const values = Array.from({ length: this.chance.whole(1, 40) }, () => ({ id: this.next(), name: this.word() }));
    return `${JSON.stringify({ values }, undefined, 1)}\n`;
  }

  word(): string {
    return Math.floor(this.chance.share() * 2 ** 40).toString(36);
  }

  /** Writes a file as an editor without an own way does, and expects it to stay. */
  write(path: string, content: string): void {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    this.expect(path, content);
  }

  /** The file has to be there with this content. */
  expect(path: string, content: string | Buffer): void {
    const digest = sha256(content);
    if (this.files.get(path) !== digest) this.healed.delete(path);
    this.files.set(path, digest);
    this.#meantToGo.delete(path);
  }

  /** The file was meant to go. */
  expectNone(path: string): void {
    this.files.delete(path);
    this.healed.delete(path);
    this.renamed.delete(path);
    this.#stored.delete(path);
    this.#meantToGo.add(path);
  }

  /** What is on the disk after the work that follows counts as made by it: what is back before that is told apart. */
  lookForUndone(area: string): void {
    for (const path of filesBelow(this.at(area))) {
      if (this.files.has(path) || !this.#meantToGo.has(path)) continue;
      this.undone.add(path);
      this.note(`UNDONE ${path.slice(this.root.length + 1)}`);
    }
  }

  /** What is on the disk below a folder now is what was meant to be there. */
  takeAsMeant(folder: string): void {
    const found = filesBelow(folder);
    const there = new Set(found);
    for (const path of [...this.files.keys()])
      if (path.startsWith(`${folder}/`) && !there.has(path)) this.expectNone(path);
    for (const path of found) this.expect(path, readFileSync(path));
  }

  /** Files of an area that nothing is the matter with. */
  quietFiles(area: string): readonly string[] {
    const start = `${this.at(area)}/`;
    return [...this.files.keys()].filter(
      (path) => path.startsWith(start) && !this.harms.has(path) && !this.renamed.has(path),
    );
  }

  hasHarm(area: string): boolean {
    const start = `${this.at(area)}/`;
    return [...this.harms.keys()].some((path) => path.startsWith(start));
  }

  /** The repository was seen to hold this content as the newest version. */
  isStored(path: string): boolean {
    const digest = this.files.get(path);
    return digest !== undefined && this.#stored.get(path) === digest;
  }

  noteStored(path: string, digest: string): void {
    this.#stored.set(path, digest);
  }

  /** Somebody did to a file what nobody wanted. */
  harm(path: string, kind: string): void {
    this.harmCounts.set(path, (this.harmCounts.get(path) ?? 0) + 1);
    this.harms.set(path, { path, kind, sinceMs: performance.now() });
    this.note(`HARM ${kind} ${path.slice(this.root.length + 1)}`);
  }

  /** Files that were put back lately and that nobody, such as tar or git, made anew since. */
  leftAsHealed(): readonly string[] {
    const sinceMs = performance.now() - SECOND_DELETION_MS;
    return [...this.healed].flatMap(([path, { atMs, ino, mtimeMs }]) => {
      const found = lstatSync(path, { throwIfNoEntry: false });
      return atMs > sinceMs && found?.ino === ino && found.mtimeMs === mtimeMs ? [path] : [];
    });
  }

  /** Looks which harmed files are back as they were. */
  lookForHealed(): void {
    for (const { path, sinceMs } of [...this.harms.values()]) {
      if (digestOf(path) !== this.files.get(path)) continue;
      this.harms.delete(path);
      const { ino, mtimeMs } = lstatSync(path);
      this.healed.set(path, { atMs: performance.now(), ino, mtimeMs });
      this.healedAfterMs.push(performance.now() - sinceMs);
      this.note(`back ${path.slice(this.root.length + 1)}`);
    }
  }
}

/** Regular files below a folder, by their paths; none when it is not there. */
export function filesBelow(folder: string): readonly string[] {
  const found: string[] = [];
  const open = [folder];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const entry of entriesOf(next)) {
      const path = join(next, entry.name);
      if (entry.isDirectory()) open.push(path);
      else if (entry.isFile()) found.push(path);
    }
  }
  return found.sort();
}

function entriesOf(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** SHA-256 of a regular file; undefined when there is none. */
export function digestOf(path: string): string | undefined {
  try {
    return lstatSync(path).isFile() ? sha256(readFileSync(path)) : undefined;
  } catch {
    return undefined;
  }
}

export function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
