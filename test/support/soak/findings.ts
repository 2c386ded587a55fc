/**
 * The judgement at the end of a soak: the disk against what was meant, the registry against the disk, the repository
 * against the disk, and incidents that still wait. Every finding says what was done to the path before.
 */
import { lstatSync } from "node:fs";
import { join } from "node:path";
import { Level } from "level";
import { type BytePath, pathFromText } from "../../../src/base/paths.js";
import { Registry, monitorSublevel } from "../../../src/monitor/registry.js";
import type { Sandbox } from "../program.js";
import type { SoakedDaemon } from "./daemon.js";
import { type World, digestOf, filesBelow } from "./world.js";

const FINDINGS_OF_A_KIND_MAX = 20;

export class Findings {
  readonly #world: World;
  readonly #lines: string[] = [];
  readonly #counts = new Map<string, number>();

  constructor(world: World) {
    this.#world = world;
  }

  get count(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** `why`: what the daemon says of the path. */
  add(kind: string, subject: string, path?: string, why?: string): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count > FINDINGS_OF_A_KIND_MAX) return;
    this.#lines.push(`${kind}: ${subject}`);
    if (why !== undefined) this.#lines.push(`    explained: ${why}`);
    if (path !== undefined) this.#lines.push(...this.#world.historyOf(path).map((line) => `    ${line}`));
  }

  text(): string {
    const counts = [...this.#counts].map(([kind, count]) => `${String(count)} x ${kind}`);
    return [...counts, ...this.#lines].join("\n");
  }
}

/** What should be there is there as it should be, and nothing else. */
export async function judgeDisk(world: World, daemon: SoakedDaemon, findings: Findings): Promise<void> {
  for (const [path, digest] of world.files) {
    const found = digestOf(path);
    if (found === digest) continue;
    const harm = world.harms.get(path);
    const what = found === undefined ? "is not there" : "has other content";
    const kind = harm === undefined ? "file not as it was left" : "loss not healed";
    findings.add(kind, `${path} ${what}`, path, await daemon.explain(path));
  }
  for (const path of new Set([...world.undone, ...filesBelow(world.root)]))
    if (world.undone.has(path) || !world.files.has(path))
      findings.add("meant deletion undone, or a file left over", path, path, await daemon.explain(path));
}

/** Nothing waits for a person, and nothing failed. */
export async function judgeIncidents(daemon: SoakedDaemon, findings: Findings): Promise<number> {
  const incidents = await daemon.incidents();
  for (const { id, state, kind, detail, paths } of incidents) {
    if (state !== "open" && state !== "healing" && state !== "waiting" && state !== "failed") continue;
    const path = paths[0]?.path;
    findings.add(`incident ${state}`, `${id} ${kind} ${path ?? ""}: ${detail}`, path);
  }
  return incidents.length;
}

/** The registry of a daemon that was stopped says of each file what the disk says, and of no other. */
export async function judgeRegistry(sandbox: Sandbox, world: World, sources: readonly string[], findings: Findings) {
  const database = new Level<string, string>(join(sandbox.state, "journal"));
  await database.open();
  try {
    const registry = await Registry.open(monitorSublevel(database));
    const onDisk = new Set(filesBelow(world.root).map((path) => pathFromText(path)));
    for (const source of sources) {
      for await (const page of registry.entries(source)) {
        for (const { path, record } of page) {
          if (record.kind !== "file" || record.state === "removed") continue;
          judgeRecord(path, record, onDisk.delete(path), findings);
        }
      }
    }
    for (const path of onDisk) findings.add("file that the registry does not know", path, path);
  } finally {
    await database.close();
  }
}

function judgeRecord(
  path: BytePath,
  record: { readonly state: string; readonly sha256?: string; readonly stat: { readonly ino: bigint } },
  isOnDisk: boolean,
  findings: Findings,
): void {
  if (record.state !== "live") findings.add(`record left ${record.state}`, path, path);
  else if (!isOnDisk) findings.add("record of a file that is not there", path, path);
  else if (record.sha256 !== digestOf(path)) findings.add("record of other content", path, path);
  else if (record.stat.ino !== lstatSync(path, { bigint: true }).ino)
    findings.add("record of another inode", path, path);
}

/** What the repository gives back for now is what is on the disk; and all that it holds can be read. */
export async function judgeRepository(sandbox: Sandbox, world: World, findings: Findings): Promise<void> {
  const target = join(sandbox.home, "restored");
  const restored = await sandbox.run("restore", "--at", new Date().toISOString(), "--target", target);
  if (restored.exitCode !== 0) findings.add("restore failed", restored.stderr);
  const start = join(target, world.root);
  const given = new Set(filesBelow(start));
  for (const path of filesBelow(world.root)) {
    const copy = join(target, path);
    if (!given.delete(copy)) findings.add("file that the repository does not give", path, path);
    else if (digestOf(copy) !== digestOf(path)) findings.add("other content in the repository", path, path);
  }
  for (const path of given) findings.add("file in the repository that was removed", path, path.slice(target.length));
  const checked = await sandbox.run("check", "--read-data");
  if (checked.exitCode !== 0) findings.add("check failed", checked.stderr + checked.stdout);
}
