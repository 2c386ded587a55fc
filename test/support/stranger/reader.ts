/**
 * A whole repository, read by docs/repository-format.md alone: every object is opened and held against what the page says
 * of it, then current entries, versions, backups and contents are made up from them.
 */
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { demand } from "./bytes.js";
import {
  type LogSegment,
  type StrangerCommit,
  type StrangerDelta,
  type StrangerNode,
  type StrangerState,
  type TreeEntry,
  commitOf,
  demandChain,
  segmentOf,
  treeEntries,
} from "./commits.js";
import { type StrangerFragment, fragmentOf, packFromParity, recordsOfPack } from "./packs.js";
import {
  type OpenRecord,
  type StrangerKey,
  type StrangerKeys,
  TYPES,
  bundledIn,
  digestedJson,
  keysOf,
} from "./records.js";

/** What is known of a path at one number; without a state it was removed. */
export interface StrangerVersion {
  readonly number: number;
  readonly timeMs: number;
  readonly state: StrangerState | undefined;
}

export interface StrangerBackup {
  readonly manifest: Readonly<Record<string, unknown>> & { readonly backup_id: string };
  readonly entries: readonly TreeEntry[];
}

export class StrangerReader {
  readonly objects: ReadonlyMap<string, Buffer>;
  readonly keys: StrangerKeys;
  readonly commits: readonly StrangerCommit[];
  readonly segments: readonly LogSegment[];
  readonly fragments: ReadonlyMap<string, StrangerFragment>;
  readonly #chunks = new Map<string, Buffer>();
  readonly #nodes = new Map<string, Buffer>();

  private constructor(objects: ReadonlyMap<string, Buffer>, key: StrangerKey | undefined) {
    this.objects = objects;
    const config = digestedJson(this.#object("config/1"));
    demand(this.#object("config/1").equals(this.#object("config/2")), "two copies of the configuration");
    demand(config["format"] === "holdfast" && config["version"] === 1, "the format of the configuration");
    demand(config["encrypted"] === (key !== undefined), "whether the repository is encrypted");
    const slots = this.#below("keys/").map(([, bytes]) => bytes);
    this.keys = keysOf(Buffer.from(String(config["repository_id"]), "hex"), slots, key);
    this.fragments = new Map(this.#below("index/").map(([name, bytes]) => [name, fragmentOf(this.keys, name, bytes)]));
    this.commits = this.#below("commits/").map(([name, bytes]) => commitOf(this.keys, name, bytes));
    demandChain(this.commits);
    this.segments = this.#below("wal/").map(([name, bytes]) => segmentOf(this.keys, name, bytes));
    for (const [name, bytes] of this.#below("packs/")) this.#takeIn(recordsOfPack(this.keys, name, bytes));
    for (const { records } of this.segments) this.#takeIn(records);
  }

  /** Reads all of a store in a folder. */
  static open(store: string, key: StrangerKey | undefined): StrangerReader {
    const files = readdirSync(store, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const paths = files.map((file) => join(file.parentPath, file.name)).sort();
    return new StrangerReader(new Map(paths.map((path) => [relative(store, path), readFileSync(path)])), key);
  }

  #object(key: string): Buffer {
    const bytes = this.objects.get(key);
    demand(bytes !== undefined, `the object ${key}`);
    return bytes;
  }

  #below(prefix: string): [string, Buffer][] {
    return [...this.objects].filter(([key]) => key.startsWith(prefix));
  }

  #takeIn(records: readonly OpenRecord[]): void {
    for (const { type, id, plain } of records) {
      demand(type === TYPES.chunk || type === TYPES.bundle || type === TYPES.node, "what a pack or log holds");
      if (type === TYPES.node) this.#nodes.set(id, plain);
      else if (type === TYPES.chunk) this.#chunks.set(id, plain);
      else
        for (const { id: inner, offset, length } of bundledIn(this.keys, plain))
          this.#chunks.set(inner, plain.subarray(offset, offset + length));
    }
  }

  /** How many records of each type the packs and logs hold. */
  get counts(): { readonly chunks: number; readonly nodes: number } {
    return { chunks: this.#chunks.size, nodes: this.#nodes.size };
  }

  /** Fragments that no other replaces list all packs, as the packs' trailers do. */
  listedPacks(): ReadonlyMap<string, StrangerFragment["packs"][number]> {
    const replaced = new Set([...this.fragments.values()].flatMap(({ replaces }) => replaces));
    const valid = [...this.fragments].filter(([key]) => !replaced.has(key.slice("index/".length)));
    return new Map(valid.flatMap(([, { packs }]) => packs.map((pack) => [pack.key, pack])));
  }

  /** All versions of all paths of each source, newest first, by the rules for numbers. */
  versions(): ReadonlyMap<string, ReadonlyMap<string, readonly StrangerVersion[]>> {
    const found = new Map<string, Map<string, Map<number, StrangerVersion>>>();
    const put = (source: string, path: string, version: StrangerVersion): void => {
      const paths = found.get(source) ?? new Map<string, Map<number, StrangerVersion>>();
      const versions = paths.get(path) ?? new Map<number, StrangerVersion>();
      found.set(source, paths.set(path, versions));
      // Of two with one number one is marked absent: that is the later knowledge.
      if (versions.get(version.number)?.state?.absentSinceMs === undefined) versions.set(version.number, version);
    };
    for (const { source, changes, number, timeMs } of this.#deltas()) {
      for (const { path, state } of changes)
        put(source, path, state === undefined ? { number, timeMs, state } : { ...versionOf(state) });
    }
    for (const { header } of this.commits) {
      if (header.body.kind !== "backup" && header.body.kind !== "base") continue;
      for (const { name, root } of this.#readable(header.body.sources ?? []))
        for (const { path, state } of this.tree(root)) put(name, path, versionOf(state));
    }
    for (const { source, path, version } of this.#removedByBase(found)) put(source, path, version);
    return new Map([...found].map(([source, paths]) => [source, inOrder(paths)]));
  }

  /** What the last base does not have, and of which nothing later is known, was removed by deltas that it retired. */
  #removedByBase(found: ReadonlyMap<string, ReadonlyMap<string, ReadonlyMap<number, StrangerVersion>>>) {
    const bases = this.commits.filter(({ header }) => header.body.kind === "base");
    const last = bases.sort((a, b) => b.header.number - a.header.number)[0]?.header.body;
    const { coversSeq: number = 0, coversMs: timeMs = 0, sources = [] } = last ?? {};
    return sources.flatMap(({ name: source, root }) => {
      const kept = new Set([...this.tree(root)].map(({ path }) => path));
      const paths = [...(found.get(source) ?? [])].filter(([path, versions]) => {
        const newest = Math.max(...versions.keys());
        return !kept.has(path) && newest <= number && versions.get(newest)?.state !== undefined;
      });
      return paths.map(([path]) => ({ source, path, version: { number, timeMs, state: undefined } }));
    });
  }

  /** Trees of removed backups and older bases may be collected. */
  #readable<T extends { readonly root: string }>(sources: readonly T[]): readonly T[] {
    return sources.filter(({ root }) => this.#nodes.has(root));
  }

  *#deltas(): Generator<StrangerDelta> {
    for (const { deltas } of this.commits) yield* deltas;
    for (const { deltas } of this.segments) yield* deltas;
  }

  tree(root: string): Generator<TreeEntry> {
    return treeEntries((id) => this.node(id), root);
  }

  /** The plain bytes of a tree node. */
  node(id: string): Buffer {
    const node = this.#nodes.get(id);
    demand(node !== undefined, `the tree node ${id}`);
    return node;
  }

  /** The backups that were not removed, with what was laid over their manifests, and their entries. */
  backups(): ReadonlyMap<string, StrangerBackup> {
    const backups = new Map<string, StrangerBackup>();
    for (const { header } of [...this.commits].sort((a, b) => a.header.number - b.header.number)) {
      const { body } = header;
      if (body.manifest !== undefined) {
        const entries = this.#readable(body.sources ?? []).flatMap(({ root }) => [...this.tree(root)]);
        backups.set(body.manifest.backup_id, { manifest: body.manifest, entries });
      }
      for (const id of body.backupIds ?? []) backups.delete(id);
      const backup = backups.get(body.backupId ?? "");
      if (backup !== undefined)
        backups.set(backup.manifest.backup_id, { ...backup, manifest: annotated(backup, body) });
    }
    return backups;
  }

  /** The bytes of a file, which its digest proves. */
  content(node: StrangerNode): Buffer {
    const parts = (node.chunks ?? []).map(({ id, lengthBytes }) => {
      const chunk = this.#chunks.get(id);
      demand(chunk?.length === lengthBytes, `the chunk ${id}`);
      return chunk;
    });
    const content = Buffer.concat(parts);
    demand(content.length === node.stat.sizeBytes, "the size of a file");
    demand(createHash("sha256").update(content).digest("hex") === node.sha256, "the digest of a file");
    return content;
  }

  /** A pack out of the parity of its group, as if it were lost; undefined: it is in none. */
  fromParity(pack: string): Buffer | undefined {
    return packFromParity(this.objects, this.keys.repositoryId, pack);
  }
}

function versionOf(state: StrangerState): StrangerVersion {
  return { number: state.number, timeMs: state.timeMs, state };
}

function inOrder(
  paths: ReadonlyMap<string, ReadonlyMap<number, StrangerVersion>>,
): ReadonlyMap<string, readonly StrangerVersion[]> {
  const sorted = [...paths].sort(([a], [b]) => (a < b ? -1 : 1));
  return new Map(sorted.map(([path, versions]) => [path, [...versions.values()].sort((a, b) => b.number - a.number)]));
}

function annotated({ manifest }: StrangerBackup, body: StrangerCommit["header"]["body"]): StrangerBackup["manifest"] {
  const { pinned, validation, retention } = body.annotation ?? {};
  const kept = { ...(manifest["retention"] as object), ...retention, ...(pinned === undefined ? {} : { pinned }) };
  return { ...manifest, validation: { ...(manifest["validation"] as object), ...validation }, retention: kept };
}
