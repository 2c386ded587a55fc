/**
 * How surely damage is told from work: `node dist/bench/damage.js [--files N] [FOLDER...]`. Real files of this machine
 * are damaged in eleven ways and replaced in benign ways; each pair of versions goes through the very checks of the
 * monitor (validators by name, the ends of the file, the differential judge). Prints the rates beside the goals.
 */
import { createCipheriv, createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, extname, join } from "node:path";
import { parseArgs } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";
import { systemClock } from "../src/base/clock.js";
import { type BytePath, pathFromText } from "../src/base/paths.js";
import { endsInNuls, hasNulTail } from "../src/monitor/damage.js";
import { Inspector } from "../src/monitor/inspect/inspector.js";
import { type FileJudgement, FileValidation, ValidationRules } from "../src/monitor/validation.js";

const { values, positionals } = parseArgs({
  options: { files: { type: "string", default: "1200" } },
  allowPositionals: true,
});
const FOLDERS =
  positionals.length > 0 ? positionals : ["/usr/share", "/usr/lib", "/usr/bin", "/etc", "/var/lib", "node_modules"];
const FILES = Number(values.files);
const SIZE_MIN = 1024;
const SIZE_MAX = 2 * 2 ** 20;
const SEEN_MAX = 400_000;
const signal = new AbortController().signal;

interface Sample {
  readonly path: string;
  readonly group: string;
  readonly content: Buffer;
}

type Change = (sample: Sample, other: Sample) => Buffer | undefined;

/** A stream of random bytes that is the same in each run. */
function cipher(content: Buffer, seed: string): Buffer {
  const key = createHash("sha256").update(seed).digest();
  return createCipheriv("aes-256-ctr", key, key.subarray(0, 16)).update(content);
}

/** Encrypts the ranges that `isIn` names by their byte offset. */
function partly({ content, path }: Sample, isIn: (at: number) => boolean): Buffer {
  const sealed = cipher(content, path);
  return Buffer.from(content.map((byte, at) => (isIn(at) ? (sealed[at] ?? 0) : byte)));
}

const DAMAGES: readonly (readonly [name: string, goalPercent: number, change: Change])[] = [
  ["encrypted as a whole", 100, (one) => partly(one, () => true)],
  ["first 4 KiB encrypted", 100, (one) => partly(one, (at) => at < 4096)],
  ["16 of every 32 bytes", 100, (one) => partly(one, (at) => at % 32 < 16)],
  ["4 of every 16 KiB", 100, (one) => partly(one, (at) => at % 16_384 < 4096)],
  ["5 % in the middle", 75, (one) => partly(one, middleOf(one.content.length))],
  ["base64 of the encrypted", 100, (one) => Buffer.from(cipher(one.content, one.path).toString("base64"))],
  ["all bytes zero", 100, ({ content }) => Buffer.alloc(content.length)],
  ["NUL tail of 40 %", 100, ({ content }) => nulTail(content)],
  ["emptied", 100, () => Buffer.alloc(0)],
  ["cut in half", 0, ({ content }) => content.subarray(0, content.length >> 1)],
  ["one bit flipped", 0, ({ content }) => flipped(content)],
];

const BENIGN: readonly (readonly [name: string, change: Change])[] = [
  ["another file of the same type", (_one, other) => other.content],
  [
    "a line appended to text",
    ({ group, content }) => (isText(group) ? Buffer.concat([content, Buffer.from("\n# more\n")]) : undefined),
  ],
  ["compressed under the same name", ({ group, content }) => (isText(group) ? gzipSync(content) : undefined)],
  [
    "compressed anew",
    ({ group, content }) => (group === ".gz" ? gzipSync(gunzipSync(content), { level: 1 }) : undefined),
  ],
  [
    "first half of a text kept",
    ({ group, content }) =>
      isFreeText(group) ? content.subarray(0, content.lastIndexOf(10, content.length >> 1) + 1) : undefined,
  ],
  [
    "a PDF with an appended remark",
    ({ group, content }) => (group === ".pdf" ? Buffer.concat([content, Buffer.from("\n% remark\n")]) : undefined),
  ],
];

function middleOf(length: number): (at: number) => boolean {
  const from = Math.floor(length * 0.475);
  return (at) => at >= from && at < from + length * 0.05;
}

function nulTail(content: Buffer): Buffer {
  return Buffer.from(content).fill(0, Math.floor(content.length * 0.6));
}

function flipped(content: Buffer): Buffer {
  const copy = Buffer.from(content);
  const at = content.length >> 1;
  copy[at] = (copy[at] ?? 0) ^ 16;
  return copy;
}

const FREE_TEXT = [".txt", ".md", ".py", ".c", ".h", ".js", ".css", ".html", ".sh", ".conf", ".pm", ".pl"];
const GROUPS = [
  ...FREE_TEXT,
  ".json",
  ".yaml",
  ".toml",
  ".xml",
  ".svg",
  ".png",
  ".gif",
  ".jpg",
  ".gz",
  ".zip",
  ".whl",
  ".jar",
  ".pdf",
  ".so",
  ".o",
  ".pyc",
  ".mo",
  ".ttf",
  ".db",
  ".sqlite",
  "elf",
];

function isFreeText(group: string): boolean {
  return FREE_TEXT.includes(group);
}

function isText(group: string): boolean {
  return isFreeText(group);
}

/** As many files of each type as there are, up to an even share; the order is that of their names' digests. */
function collect(): readonly Sample[] {
  const found = new Map<string, string[]>();
  let seen = 0;
  const walk = (folder: string): void => {
    for (const entry of readdirOrNone(folder)) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) walk(path);
      if (!entry.isFile() || seen++ > SEEN_MAX) continue;
      const group = groupOf(path);
      if (group === undefined) continue;
      found.set(group, [...(found.get(group) ?? []), path]);
    }
  };
  for (const folder of FOLDERS) walk(folder);
  const share = Math.ceil(FILES / found.size) * 2;
  const picked = [...found].flatMap(([group, paths]) =>
    inDigestOrder(paths)
      .slice(0, share)
      .map((path) => ({ path, group })),
  );
  return inDigestOrder(picked.map(({ path }) => path))
    .slice(0, FILES)
    .map((path) => ({ path, group: groupOf(path) ?? "", content: readFileSync(path) }));
}

function readdirOrNone(folder: string): ReturnType<typeof listFolder> {
  try {
    return listFolder(folder);
  } catch {
    return [];
  }
}

function listFolder(folder: string) {
  return readdirSync(folder, { withFileTypes: true });
}

function groupOf(path: string): string | undefined {
  const size = sizeOf(path);
  if (size === undefined || size < SIZE_MIN || size > SIZE_MAX) return undefined;
  const ending = extname(path).toLowerCase();
  if (GROUPS.includes(ending)) return ending;
  return /\/bin\/|\.so\.[\d.]+$/.test(path) && readFileSync(path).toString("latin1", 0, 4) === "\x7fELF"
    ? "elf"
    : undefined;
}

function sizeOf(path: string): number | undefined {
  try {
    return statSync(path).size;
  } catch {
    return undefined;
  }
}

function inDigestOrder(paths: readonly string[]): readonly string[] {
  const key = (path: string): string => createHash("sha256").update(path).digest("hex");
  return [...paths]
    .map((path) => [key(path), path] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, path]) => path);
}

/** The monitor's checks over two versions that lie in a private folder under the file's own name. */
class Bench implements AsyncDisposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "holdfast-damage-"));
  readonly #validation = new FileValidation(systemClock, join(this.#folder, "scratch"));
  readonly #inspector = new Inspector(systemClock);
  readonly #rules = new ValidationRules([pathFromText(this.#folder)]);

  /** Why the new version is taken for damage (healed or asked) or for an attack; undefined when it is a version. */
  async verdict(sample: Sample, now: Buffer): Promise<string | undefined> {
    const [old, fresh] = [this.#write("old", sample, sample.content), this.#write("new", sample, now)];
    const before = await this.#judge(old);
    const after = await this.#judge(fresh);
    const damage = this.#damage(before, after);
    if (damage !== undefined) return `damage: ${damage}`;
    const limits = { timeoutMs: 60_000, sizeBytesMax: 64 * 2 ** 20 };
    const alone = await this.#inspector.comparePair({ path: fresh }, limits, signal);
    if (alone.outcome === "done" && alone.value.is === "ordinary") return undefined;
    const pair = await this.#inspector.comparePair({ path: fresh, oldPath: old }, limits, signal);
    return pair.outcome === "done" && pair.value.is === "suspicious" ? `suspicion: ${pair.value.reason}` : undefined;
  }

  #damage(before: FileJudgement, after: FileJudgement): string | undefined {
    const [old, now] = [before.shape, after.shape];
    if (old === undefined || now === undefined) return undefined;
    if (now.sizeBytes === 0) return "emptied";
    if (hasNulTail(now) && !endsInNuls(old)) return "NUL tail";
    if (before.verdict.verdict === "valid" && after.verdict.verdict === "invalid") return after.verdict.detail;
    return undefined;
  }

  #write(name: string, { path }: Sample, content: Buffer): BytePath {
    const file = join(this.#folder, `${name}-${basename(path)}`);
    writeFileSync(file, content);
    return pathFromText(file);
  }

  async #judge(file: BytePath): Promise<FileJudgement> {
    return await this.#validation.judge(file, this.#rules.checksFor(file), signal);
  }

  clean(): void {
    for (const name of readdirSync(this.#folder)) rmSync(join(this.#folder, name), { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#validation[Symbol.asyncDispose]();
    await this.#inspector[Symbol.asyncDispose]();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`;
}

async function main(): Promise<void> {
  await using bench = new Bench();
  const samples = collect();
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) groups.set(sample.group, [...(groups.get(sample.group) ?? []), sample]);
  process.stdout.write(
    `${String(samples.length)} files: ${[...groups].map(([group, { length }]) => `${group} ${String(length)}`).join(", ")}\n`,
  );
  const nextOf = (sample: Sample): Sample => {
    const all = groups.get(sample.group) ?? [];
    return all[(all.indexOf(sample) + 1) % all.length] ?? sample;
  };
  for (const [name, goal, change] of DAMAGES) {
    const missed = new Map<string, number>();
    let found = 0;
    for (const sample of samples) {
      const now = change(sample, sample);
      const verdict = now === undefined ? undefined : await bench.verdict(sample, now);
      if (verdict !== undefined) found += 1;
      else missed.set(sample.group, (missed.get(sample.group) ?? 0) + 1);
      bench.clean();
    }
    const what = [...missed].map(([group, count]) => `${group} ${String(count)}`).join(", ");
    process.stdout.write(
      `${name.padEnd(34)} found ${percent(found, samples.length).padStart(8)}  goal ${String(goal).padStart(3)} %  missed: ${what}\n`,
    );
  }
  for (const [name, change] of BENIGN) {
    let count = 0;
    const alarms: string[] = [];
    for (const sample of samples) {
      const other = nextOf(sample);
      const now = other === sample ? undefined : change(sample, other);
      if (now === undefined) continue;
      count += 1;
      const verdict = await bench.verdict(sample, now);
      if (verdict !== undefined) alarms.push(`${sample.path} (by ${other.path}): ${verdict}`);
      bench.clean();
    }
    process.stdout.write(
      `${name.padEnd(34)} false ${percent(alarms.length, count).padStart(8)}  goal <= 0.2 %  of ${String(count)}\n`,
    );
    for (const alarm of alarms.slice(0, 10)) process.stdout.write(`    ${alarm}\n`);
  }
}

await main();
