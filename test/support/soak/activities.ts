/**
 * What people and programs do all day, each as its own program does it. An activity leaves the world's idea of the files
 * as it left the files; what it takes away is meant to go. Activities keep away from harmed files until they are back.
 */
import { appendFileSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { SoakedDaemon } from "./daemon.js";
import { quoted } from "./harms.js";
import type { Scene } from "./scene.js";
import { type World, digestOf } from "./world.js";

export interface Activity {
  readonly name: string;
  readonly weight: number;
  /** False when there was nothing to do it to. */
  run(scene: Scene): Promise<boolean>;
}

const DOCS_MAX = 500;

export const ACTIVITIES: readonly Activity[] = [
  { name: "create", weight: 10, run: ({ world }) => done(create(world)) },
  { name: "edit in place", weight: 8, run: ({ world }) => done(edit(world)) },
  { name: "append", weight: 5, run: ({ world }) => done(append(world)) },
  { name: "atomic save", weight: 10, run: ({ world }) => done(atomicSave(world)) },
  { name: "save with a backup file", weight: 4, run: ({ world }) => done(saveWithBackup(world)) },
  { name: "rename", weight: 6, run: renameFile },
  { name: "rename a folder", weight: 2, run: renameFolder },
  { name: "trash", weight: 4, run: ({ world }) => done(trash(world)) },
  { name: "second deletion", weight: 4, run: deleteAgain },
  { name: "delete while paused", weight: 3, run: deletePaused },
  { name: "delete where deletions are allowed", weight: 4, run: scratch },
  { name: "git", weight: 6, run: git },
  { name: "tar", weight: 3, run: tar },
  { name: "rotate a log", weight: 2, run: rotate },
  { name: "npm ci", weight: 1, run: npm },
];

/** The areas before the soak begins. */
export async function prepare(scene: Scene, home: string): Promise<void> {
  const { world } = scene;
  for (let index = 0; index < 150; index += 1) create(world);
  for (let index = 0; index < 20; index += 1) world.write(world.at("scratch", `s${String(index)}`), world.text());
  mkdirSync(world.at("code"));
  await scene.run(
    `git init -q -b main . && git config user.email a@example.org && git config user.name a && git config gc.auto 0
    mkdir src; for i in $(seq 30); do echo "module $i of ${world.word()}" > src/m$i.txt; done; git add . && git commit -qm one
    git checkout -qb other; git rm -q src/m1.txt src/m2.txt src/m3.txt; echo more > src/other.txt; git add .; git commit -qm two
    git checkout -q main`,
    world.at("code"),
  );
  world.takeAsMeant(world.at("code"));
  for (let index = 0; index < 12; index += 1)
    world.write(world.at("archive", "pack", `p${String(index)}.txt`), world.text());
  world.write(world.at("archive", "app.log"), world.text().repeat(4));
  await prepareModules(scene, home);
}

/** A package that npm installs from a local file. */
async function prepareModules(scene: Scene, home: string): Promise<void> {
  const { world } = scene;
  const dependency = join(home, "dependency");
  mkdirSync(dependency);
  writeFileSync(join(dependency, "package.json"), JSON.stringify({ name: "dependency", version: "1.0.0" }));
  for (let index = 0; index < 20; index += 1)
    writeFileSync(join(dependency, `f${String(index)}.js`), `export const v = ${String(index)};\n`);
  await scene.run(`npm pack --silent --pack-destination ${quoted(home)}`, dependency);
  mkdirSync(world.at("app"));
  const dependencies = { dependency: `file:${join(home, "dependency-1.0.0.tgz")}` };
  writeFileSync(world.at("app", "package.json"), JSON.stringify({ name: "app", version: "1.0.0", dependencies }));
  await scene.run("npm install --offline --silent --no-audit --no-fund", world.at("app"));
  world.takeAsMeant(world.at("app"));
}

async function done(outcome: boolean): Promise<boolean> {
  return await Promise.resolve(outcome);
}

function told(world: World, what: string, ...paths: string[]): true {
  world.note(`${what} ${paths.map((path) => path.slice(world.root.length + 1)).join(" ")}`);
  return true;
}

function create(world: World): boolean {
  const isJson = world.chance.share() < 0.3;
  const depth = world.chance.whole(1, 3);
  const folders = Array.from({ length: depth }, () => `d${String(world.chance.whole(0, 9))}`);
  if (world.quietFiles("docs").length > DOCS_MAX) return false;
  const path = world.at("docs", ...folders, `n${String(world.next())}${isJson ? ".json" : ".txt"}`);
  told(world, "create", path);
  world.write(path, isJson ? world.json() : world.text());
  return true;
}

function docOf(world: World): string | undefined {
  return world.chance.oneOf(world.quietFiles("docs"));
}

function contentFor(world: World, path: string): string {
  return path.endsWith(".json") ? world.json() : world.text();
}

function edit(world: World): boolean {
  const path = docOf(world);
  if (path === undefined) return false;
  told(world, "edit", path);
  world.write(path, contentFor(world, path));
  return true;
}

function append(world: World): boolean {
  const path = docOf(world);
  if (path === undefined || path.endsWith(".json")) return false;
  told(world, "append", path);
  appendFileSync(path, `and more ${world.word()} ${String(world.next())}\n`);
  world.expect(path, readFileSync(path));
  return true;
}

function atomicSave(world: World): boolean {
  const path = docOf(world);
  if (path === undefined) return false;
  const content = contentFor(world, path);
  told(world, "atomic save", path);
  const temporary = `${path}.${world.word()}`;
  writeFileSync(temporary, content);
  renameSync(temporary, path);
  world.expect(path, content);
  return true;
}

/** vim's way with `backup`: the old file steps aside, the new one is written, the old one goes. */
function saveWithBackup(world: World): boolean {
  const path = docOf(world);
  if (path === undefined) return false;
  const content = contentFor(world, path);
  told(world, "save with backup", path);
  renameSync(path, `${path}~`);
  writeFileSync(path, content);
  unlinkSync(`${path}~`);
  world.expect(path, content);
  return true;
}

async function renameFile({ world, daemon }: Scene): Promise<boolean> {
  const path = docOf(world);
  if (path === undefined || !(await areStored(world, daemon, [path]))) return false;
  const to = join(dirname(path), `r${String(world.next())}-${basename(path)}`.slice(-60));
  told(world, "rename", path, to);
  renameSync(path, to);
  world.expect(to, readFileSync(to));
  world.renamed.set(to, path);
  world.expectNone(path);
  return true;
}

/**
 * Who saves a file as a new inode and renames it before anybody has looked leaves nothing that tells the old version from
 * a lost one: what is renamed here was stored before.
 */
async function areStored(world: World, daemon: SoakedDaemon, paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    if (world.isStored(path)) continue;
    const digest = await daemon.newestDigest(path);
    if (digest !== undefined) world.noteStored(path, digest);
    if (!world.isStored(path)) return false;
  }
  return true;
}

async function renameFolder({ world, daemon }: Scene): Promise<boolean> {
  const path = docOf(world);
  const folder = path === undefined ? "" : dirname(path);
  if (path === undefined || folder === world.at("docs") || isUnsettled(world, folder)) return false;
  const below = [...world.files.keys()].filter((one) => one.startsWith(`${folder}/`));
  if (!(await areStored(world, daemon, below)) || isUnsettled(world, folder)) return false;
  const to = join(dirname(folder), `m${String(world.next())}`);
  told(world, "rename folder", folder, to);
  renameSync(folder, to);
  for (const old of [...world.files.keys()]) {
    if (!old.startsWith(`${folder}/`)) continue;
    const moved = to + old.slice(folder.length);
    world.expect(moved, readFileSync(moved));
    world.renamed.set(moved, world.renamed.get(old) ?? old);
    world.expectNone(old);
  }
  return true;
}

function isUnsettled(world: World, folder: string): boolean {
  return [...world.harms.keys(), ...world.renamed.keys()].some((path) => path.startsWith(`${folder}/`));
}

/** As the desktops do it: the entry first, then the file. */
function trash(world: World): boolean {
  const path = docOf(world);
  if (path === undefined) return false;
  const bin = join(dirname(world.root), ".local/share/Trash");
  const name = `${String(world.next())}-${basename(path)}`;
  told(world, "trash", path);
  mkdirSync(join(bin, "info"), { recursive: true });
  mkdirSync(join(bin, "files"), { recursive: true });
  const date = new Date().toISOString().slice(0, 19);
  writeFileSync(
    join(bin, "info", `${name}.trashinfo`),
    `[Trash Info]\nPath=${encodeURI(path)}\nDeletionDate=${date}\n`,
  );
  renameSync(path, join(bin, "files", name));
  world.expectNone(path);
  return true;
}

/** What came back is deleted again: its owner means it. A kill within the heal may leave no word of it: not then. */
async function deleteAgain({ world, daemon }: Scene): Promise<boolean> {
  const path = world.chance.oneOf(world.leftAsHealed().filter((one) => world.files.has(one)));
  if (path === undefined || digestOf(path) !== world.files.get(path)) return false;
  const newest = (await daemon.incidents()).find(({ paths }) => paths.some((one) => one.path === path));
  if (newest?.state !== "healed") return false;
  told(world, "second deletion", path);
  unlinkSync(path);
  world.expectNone(path);
  return true;
}

async function deletePaused({ world, daemon }: Scene): Promise<boolean> {
  const path = docOf(world);
  if (path === undefined || !(await daemon.pause(path, 120))) return false;
  told(world, "delete while paused", path);
  unlinkSync(path);
  world.expectNone(path);
  await delay(world.chance.whole(0, 300));
  await daemon.resume(path);
  return true;
}

async function scratch({ world }: Scene): Promise<boolean> {
  const path = world.chance.oneOf(world.quietFiles("scratch"));
  if (path !== undefined && world.chance.share() < 0.5) {
    told(world, "rm", path);
    unlinkSync(path);
    world.expectNone(path);
    return true;
  }
  const fresh = world.at("scratch", `s${String(world.next())}`);
  told(world, "create", fresh);
  world.write(fresh, world.text());
  return await done(true);
}

const GIT_WORK = [
  'echo "WORD" >> src/m$((RANDOM % 20 + 5)).txt; git add -A; git commit -qm edit',
  'echo "WORD" > src/new-WORD.txt; git add -A; git commit -qm new',
  "git checkout -q -f other",
  "git checkout -q -f main",
  'echo "draft WORD" > src/draft.txt; git add -A; git stash -q',
  "git stash list | grep -q . && git stash pop -q && git add -A && git commit -qm popped || git reset -q --hard",
  "git rev-parse -q --verify HEAD~2 > /dev/null && git reset -q --hard HEAD~1 || true",
  "git rm -q src/m$((RANDOM % 20 + 5)).txt 2> /dev/null && git commit -qm removed || true",
  "git mv src/m$((RANDOM % 20 + 5)).txt src/moved-WORD.txt 2> /dev/null && git commit -qm moved || true",
];

async function git(scene: Scene): Promise<boolean> {
  const { world } = scene;
  if (world.hasHarm("code")) return false;
  world.lookForUndone("code");
  const script = (world.chance.oneOf(GIT_WORK) ?? "").replaceAll("WORD", world.word());
  world.note(`git (all of code) ${script}`);
  await scene.run(script, world.at("code"));
  world.takeAsMeant(world.at("code"));
  return true;
}

/** An archive of new versions is unpacked over the old ones. */
async function tar(scene: Scene): Promise<boolean> {
  const { world } = scene;
  if (world.hasHarm("archive")) return false;
  world.lookForUndone("archive");
  world.note("tar (all of archive)");
  const seed = join(dirname(world.root), "seed");
  mkdirSync(join(seed, "pack"), { recursive: true });
  for (let index = 0; index < 12; index += 1)
    if (world.chance.share() < 0.5) writeFileSync(join(seed, "pack", `p${String(index)}.txt`), world.text());
  await scene.run(`tar -C ${quoted(seed)} -cf ../seed.tar . && tar -xf ../seed.tar -C archive --no-same-owner`);
  world.takeAsMeant(world.at("archive"));
  return true;
}

/** logrotate's steps: the oldest is dropped, one is compressed, the log is renamed and made anew. */
async function rotate(scene: Scene): Promise<boolean> {
  const { world } = scene;
  if (world.hasHarm("archive")) return false;
  world.lookForUndone("archive");
  world.note("rotation (all of archive)");
  const text = quoted(world.text());
  await scene.run(
    `rm -f app.log.3.gz; [ -e app.log.2.gz ] && mv app.log.2.gz app.log.3.gz; [ -e app.log.1 ] && gzip -c app.log.1 > app.log.2.gz && rm app.log.1
    [ ! -e app.log ] || mv app.log app.log.1; printf %s ${text} > app.log`,
    world.at("archive"),
  );
  world.takeAsMeant(world.at("archive"));
  return true;
}

async function npm(scene: Scene): Promise<boolean> {
  const { world } = scene;
  world.lookForUndone("app");
  world.note("npm ci (all of app)");
  await scene.run("npm ci --offline --silent --no-audit --no-fund", world.at("app"));
  world.takeAsMeant(world.at("app"));
  return true;
}
