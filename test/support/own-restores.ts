/**
 * Many restores of holdfast's own, and how they are heard: files of several kinds are lost and damaged in several ways under a
 * real watcher, a real healer puts them back, and what the watcher hears of that must be nothing. A restore that is taken
 * for somebody's change, or for the beginning of another loss, would go on for ever.
 */
import { createHash } from "node:crypto";
import {
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type BytePath, joinPath, pathBytes } from "../../src/base/paths.js";
import { isAsRegistered, lookAt } from "../../src/monitor/look.js";
import { HealingBench } from "./healing-bench.js";

export interface OwnRestores {
  readonly restores: number;
  /** Losses and damages that were told; each harm once when there is no loop. */
  readonly told: number;
  /** Changes, returns and removals that were told: restores that were heard as somebody else's deed. */
  readonly foreign: readonly string[];
  /** Paths whose registry record is not what stands there, and the other way round. */
  readonly unlike: readonly string[];
  /** Paths whose content is not what it was. */
  readonly wrong: readonly string[];
  readonly notHealed: readonly string[];
  readonly faults: readonly string[];
}

interface Options {
  readonly restores: number;
  /** Harmed together. */
  readonly batch: number;
  readonly graceMs?: number;
  readonly onBatch?: (restores: number) => void;
}

interface Victim {
  readonly path: BytePath;
  harm(): void;
}

/** Room for the slowest machine, ms. */
const BATCH_LIMIT_MS = 120_000;
const QUIET_MS_MIN = 400;
const TEXT = "A line that somebody needs.\n";

/** One way to lose a file: what it is, and what is done to it. */
interface Kind {
  readonly name: string;
  make(path: Buffer, index: number): void;
  harm(path: Buffer): void;
}

const remove = (path: Buffer): void => rmSync(path, { recursive: true });
const text = (path: Buffer, index: number): void => writeFileSync(path, TEXT.repeat(1 + (index % 40)) + String(index));
const json = (path: Buffer, index: number): void => writeFileSync(path, JSON.stringify({ index, list: [1, 2, 3] }));

const KINDS: readonly Kind[] = [
  { name: "note.txt", make: text, harm: remove },
  { name: "empty", make: (path) => writeFileSync(path, ""), harm: remove },
  { name: "large.bin", make: (path, index) => writeFileSync(path, Buffer.alloc(150_000, index)), harm: remove },
  { name: "sealed.txt", make: (path, index) => writeFileSync(path, String(index), { mode: 0o400 }), harm: remove },
  { name: "caf\xe9.txt", make: text, harm: remove },
  { name: "link", make: (path, index) => symlinkSync(`target-${String(index)}`, path), harm: remove },
  { name: "emptied.txt", make: text, harm: (path) => truncateSync(path) },
  { name: "broken.json", make: json, harm: (path) => writeFileSync(path, '{"index": ') },
  { name: "replaced.json", make: json, harm: (path) => replaceWith(path, '{"index": 1,,}') },
  // Last: it is left out when there is no room for all its files.
  { name: "tree", make: (path, index) => makeTree(path, index), harm: remove },
];

/** Harms and restores so many files, and says what was heard. */
export async function countOwnRestores(options: Options): Promise<OwnRestores> {
  await using bench = await HealingBench.create({
    healer: { breakerPathRestores: 1_000_000, breakerRestoresPerMinute: 1_000_000 }, // a brake would hide a loop
  });
  const { watch } = bench;
  const victims = makeVictims(watch.folder.bytes(), options.restores);
  const before = new Map(victims.map(({ path }) => [path, digestOf(path)]));
  const graceMs = options.graceMs === undefined ? {} : { graceMs: options.graceMs };
  await watch.protect({ ...graceMs, mass: { files: 10_000_000, share: 1_000_000 } });
  await watch.quiet(400, BATCH_LIMIT_MS);
  watch.clear();
  for (let start = 0; start < victims.length; start += options.batch) {
    const batch = victims.slice(start, start + options.batch);
    for (const victim of batch) victim.harm();
    const isDone = (): boolean => bench.healedPaths + bench.notHealed.length >= start + batch.length;
    await watch.until("the restores", isDone, BATCH_LIMIT_MS);
    options.onBatch?.(bench.healedPaths);
  }
  await bench.healer.idle();
  // A restore that is heard as a loss has to pass the grace before it is told.
  await watch.quiet(Math.max(QUIET_MS_MIN, 2 * (options.graceMs ?? 500)), BATCH_LIMIT_MS);
  return {
    restores: bench.healedPaths,
    told: watch.losses.length + watch.events("mass.loss").length,
    foreign: (["file.changed", "file.returned", "file.removed"] as const).flatMap((name) =>
      watch.paths(name).map((path) => `${name} ${path}`),
    ),
    unlike: await unlikeRegistry(bench),
    wrong: victims.filter(({ path }) => digestOf(path) !== before.get(path)).map(({ path }) => path),
    notHealed: bench.notHealed,
    faults: watch.faults,
  };
}

function makeVictims(root: BytePath, count: number): readonly Victim[] {
  const victims: Victim[] = [];
  for (let index = 0; victims.length < count; index += 1) {
    const isRoomForTree = count - victims.length >= TREE_FILES.length;
    const kind = KINDS[index % (isRoomForTree ? KINDS.length : KINDS.length - 1)];
    if (kind === undefined) break;
    const path = joinPath(root, `${String(index % 97)}/${String(index)}-${kind.name}`);
    mkdirSync(dirname(path), { recursive: true });
    kind.make(pathBytes(path), index);
    victims.push(...victimsOf(kind, path));
  }
  return victims;
}

/** A tree counts its files; its removal is the deed of the first. */
function victimsOf(kind: Kind, path: BytePath): readonly Victim[] {
  const harm = (): void => kind.harm(pathBytes(path));
  if (kind.name !== "tree") return [{ path, harm }];
  return TREE_FILES.map((name, index) => ({ path: joinPath(path, name), harm: index === 0 ? harm : () => undefined }));
}

const TREE_FILES = ["a.txt", "deep/b.txt", "deep/er/c.txt"];

function makeTree(path: Buffer, index: number): void {
  const folder = path.toString("latin1");
  for (const name of TREE_FILES) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), `${name} of ${String(index)}`);
  }
}

function replaceWith(path: Buffer, content: string): void {
  const temporary = Buffer.concat([path, Buffer.from(".new")]);
  writeFileSync(temporary, content);
  renameSync(temporary, path);
}

/** Of what stands at a path: its content's digest, or where a link leads. */
function digestOf(path: BytePath): string {
  const look = lookAt(path);
  if (look.is !== "there") return look.is;
  if (look.node.kind !== "file") return look.node.linkTarget ?? look.node.kind;
  return createHash("sha256")
    .update(readFileSync(pathBytes(path)))
    .digest("hex");
}

async function unlikeRegistry({ watch }: HealingBench): Promise<readonly string[]> {
  const unlike: string[] = [];
  const known = new Set<string>();
  for await (const page of watch.monitor.registry.entries("data")) {
    for (const { path, record } of page) {
      const look = lookAt(path);
      known.add(path);
      const isThere = look.is === "there" && record.state === "live" && isAsRegistered(record, look.node);
      if (!isThere && !(look.is === "missing" && record.state === "removed")) unlike.push(`${record.state} ${path}`);
    }
  }
  for (const path of pathsBelow(watch.folder.bytes())) if (!known.has(path)) unlike.push(`unknown ${path}`);
  return unlike;
}

/** Names may have any bytes. */
function* pathsBelow(folder: BytePath): Generator<BytePath> {
  for (const entry of readdirSync(pathBytes(folder), { encoding: "latin1", withFileTypes: true })) {
    const path = joinPath(folder, entry.name);
    yield path;
    if (entry.isDirectory()) yield* pathsBelow(path);
  }
}
