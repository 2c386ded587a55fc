/**
 * All sources of the daemon: those of the configuration, and those that `holdfast protect` added at run time, which
 * are kept in the state database and come back at the next start.
 */
import { HoldfastError } from "../base/errors.js";
import { type BytePath, isWithin, pathFromText, pathText } from "../base/paths.js";
import type { SourceConfiguration } from "../config/configuration.js";
import { realOrSame } from "../sources/files.js";
import { ProtectedSource, type SourceSurroundings } from "./protected-source.js";
import { type AddedSource, type SourceSettings, freeSourceName } from "./source-defaults.js";

/** Sources at most; each costs a watcher subscription and a range of the registry. */
export const SOURCES_MAX = 1_000;

/** The part of a LevelDB sublevel that the book needs. */
export interface BookStore {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): Promise<void>;
}

const KEY = "run-time-sources";

/** What is kept of a source that was added at run time; paths in base64 of their bytes. */
interface KeptSource extends SourceSettings {
  readonly name: string;
  readonly paths: readonly string[];
}

export class SourceBook {
  readonly #store: BookStore;
  readonly #surroundings: SourceSurroundings;
  /** Makes the configuration of a source that is added at run time. */
  readonly #configure: (added: AddedSource) => SourceConfiguration;
  readonly #sources = new Map<string, ProtectedSource>();
  /** Removed for a moment, to come back otherwise. */
  readonly #returning = new Map<string, ProtectedSource>();

  constructor(
    store: BookStore,
    surroundings: SourceSurroundings,
    configure: (added: AddedSource) => SourceConfiguration,
  ) {
    this.#store = store;
    this.#surroundings = surroundings;
    this.#configure = configure;
  }

  /** Takes the configured sources and those kept from earlier runs; a kept one whose name is configured now gives way. */
  async load(configured: readonly SourceConfiguration[]): Promise<void> {
    for (const configuration of configured) this.#take(this.prepare(configuration));
    for (const { name, paths, ...settings } of await this.#kept()) {
      if (this.#sources.has(name)) continue;
      const bytes = paths.map((path) => Buffer.from(path, "base64").toString("latin1") as BytePath);
      this.#take(this.prepareAdded({ name, paths: bytes, settings }));
    }
  }

  /** A source of the configuration, not yet in the book. */
  prepare(configuration: SourceConfiguration): ProtectedSource {
    return new ProtectedSource(configuration, this.#surroundings, undefined);
  }

  /** A source that is added at run time, not yet in the book; `configuration` unless that in force. Throws USAGE. */
  prepareAdded(added: AddedSource, configuration = this.#configure(added)): ProtectedSource {
    return new ProtectedSource(configuration, this.#surroundings, added);
  }

  all(): readonly ProtectedSource[] {
    return [...this.#sources.values()];
  }

  find(name: string): ProtectedSource | undefined {
    return this.#sources.get(name);
  }

  /** Throws SOURCE_NOT_FOUND. */
  get(name: string): ProtectedSource {
    const source = this.#sources.get(name);
    if (source === undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `no source is called "${name}"`);
    return source;
  }

  /** The source that protects a path, or undefined. */
  holding(path: BytePath): ProtectedSource | undefined {
    return this.all().find((source) => source.holds(path));
  }

  /** Throws SOURCE_NOT_FOUND for a path that lies in no source and holds none: a slip of the hand. */
  needAt(path: BytePath): void {
    const isNear = (folder: BytePath): boolean => isWithin(path, folder) || isWithin(folder, path);
    if (this.all().some(({ files }) => files.roots.some(({ folder }) => isNear(folder)))) return;
    throw new HoldfastError("SOURCE_NOT_FOUND", `nothing at ${pathText(path)} is protected`, {
      hint: "See `holdfast status`.",
    });
  }

  /** The source of that name or over that very path. Throws SOURCE_NOT_FOUND. */
  byNameOrPath(nameOrPath: string): ProtectedSource {
    const found = this.#sources.get(nameOrPath) ?? this.#over(nameOrPath);
    if (found === undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `nothing is protected as "${nameOrPath}"`);
    return found;
  }

  #over(path: string): ProtectedSource | undefined {
    const named = this.all().find((source) => source.pathTexts.includes(path));
    if (named !== undefined || !path.startsWith("/")) return named;
    const real = realOrSame(pathFromText(path));
    return this.all().find(({ files }) => files.roots.some((root) => (root.file ?? root.folder) === real));
  }

  /** A free name for new paths, after the last name of the first one. */
  freeName(paths: readonly BytePath[]): string {
    return freeSourceName(paths[0] ?? ("/" as BytePath), (name) => this.#sources.has(name));
  }

  /** Puts a prepared source into the book. Throws SOURCE_EXISTS, LIMIT_REACHED. */
  async add(source: ProtectedSource): Promise<void> {
    if (this.#sources.has(source.name))
      throw new HoldfastError("SOURCE_EXISTS", `a source is called "${source.name}" already`);
    if (this.#sources.size >= SOURCES_MAX)
      throw new HoldfastError("LIMIT_REACHED", `${String(SOURCES_MAX)} sources are the limit`);
    this.#sources.set(source.name, source);
    this.#returning.delete(source.name);
    await this.#keep();
  }

  /** `willReturn`: it is added anew soon, and kept as it was until then, so that a crash in between loses no source. */
  async remove(name: string, willReturn = false): Promise<void> {
    const source = this.#sources.get(name);
    this.#sources.delete(name);
    if (willReturn && source !== undefined) this.#returning.set(name, source);
    else await this.#keep();
  }

  /** When a source was first protected, wall ms; remembered from now on. */
  async registeredAt(name: string, nowMs: number): Promise<number> {
    const key = `registered:${name}`;
    const known = Number(await this.#store.get(key));
    if (known > 0) return known;
    await this.#store.put(key, String(nowMs));
    return nowMs;
  }

  #take(source: ProtectedSource): void {
    this.#sources.set(source.name, source);
  }

  async #kept(): Promise<readonly KeptSource[]> {
    const text = await this.#store.get(KEY);
    return text === undefined ? [] : (JSON.parse(text) as readonly KeptSource[]);
  }

  async #keep(): Promise<void> {
    const kept: KeptSource[] = [];
    for (const { added } of [...this.all(), ...this.#returning.values()]) {
      if (added === undefined) continue;
      const paths = added.paths.map((path) => Buffer.from(path, "latin1").toString("base64"));
      kept.push({ name: added.name, paths, ...added.settings });
    }
    await this.#store.put(KEY, JSON.stringify(kept));
  }
}
