/**
 * The house rules about imports: floors, doors and rooms, circles, who may read the configuration, who may start
 * processes. The floors are those of docs/architecture.md.
 */
import { posix } from "node:path";
import ts from "typescript";
import { type Complaint, type Rule, type SourceText, complaintAt, walk } from "./source.js";

/** Floor of each folder of src; folders on one floor do not know each other. */
export const FLOORS: Readonly<Record<string, number>> = {
  base: 0,
  config: 1,
  telemetry: 1,
  storage: 1,
  alerts: 1,
  engine: 2,
  monitor: 3,
  sources: 3,
  recovery: 4,
  policy: 4,
  verify: 4,
  anomaly: 4,
  disaster: 5,
  api: 6,
  browse: 6,
  daemon: 7,
  cli: 8,
};

/** The one file that may enter rooms: it lists drivers, strategies and channels. */
const ROOM_KEY = "src/daemon/plugins.ts";

/** Who may import what from node:child_process, and why. Everyone else goes through base/spawn.ts. */
const CHILD_PROCESS_USERS: readonly { readonly path: string; readonly name: string; readonly why: string }[] = [
  { path: "src/base/spawn.ts", name: "spawn", why: "the one helper" },
  { path: "src/monitor/", name: "fork", why: "the watcher lives in a child of its own, with a channel to it" },
  { path: "src/cli/", name: "spawn", why: "the command line starts a daemon that outlives it" },
];

/** A reference from one file to another: import, re-export, dynamic import, or a URL of a worker. */
interface Reference {
  readonly node: ts.Node;
  readonly specifier: string;
  /** Project path of the file meant; undefined for packages. */
  readonly target: string | undefined;
  readonly isUrl: boolean;
}

function references(file: SourceText): Reference[] {
  const found: Reference[] = [];
  const add = (node: ts.Node, literal: ts.Node | undefined, isUrl: boolean): void => {
    if (literal === undefined || !ts.isStringLiteralLike(literal)) return;
    const relative = literal.text.startsWith(".");
    const path = posix.join(posix.dirname(file.path), literal.text).replace(/\.js$/, ".ts");
    found.push({ node, specifier: literal.text, target: relative ? path : undefined, isUrl });
  };
  walk(file.tree, (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, false);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node, node.arguments[0], false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node, node.argument.literal, false);
    else if (ts.isNewExpression(node) && ts.isIdentifier(node.expression) && node.expression.text === "URL")
      add(node, node.arguments?.[0], true);
  });
  return found;
}

/** `src/engine/pack/reader.ts` is in folder `engine`; undefined outside of src. */
function folderOf(path: string): string | undefined {
  const [top, folder, ...rest] = path.split("/");
  return top === "src" && rest.length > 0 ? folder : undefined;
}

function isRoom(path: string): boolean {
  return path.split("/").length > 3;
}

/** Applies a check to each reference from a folder of src to a file of the project. */
function eachReference(
  files: readonly SourceText[],
  check: (file: SourceText, reference: Reference & { readonly target: string }) => string | undefined,
): Complaint[] {
  const complaints: Complaint[] = [];
  for (const file of files.filter(({ path }) => path.startsWith("src/"))) {
    for (const reference of references(file)) {
      if (reference.target === undefined) continue;
      const message = check(file, { ...reference, target: reference.target });
      if (message !== undefined) complaints.push(complaintAt(file, reference.node, message));
    }
  }
  return complaints;
}

export const everyFolderHasAFloor: Rule = (files) =>
  files
    .filter(({ path }) => FLOORS[folderOf(path) ?? ""] === undefined)
    .map(({ path }) => ({
      path,
      line: 1,
      message: `lies in no folder that has a floor: move it, or give its folder a floor in docs/architecture.md and here`,
    }));

export const importsPointDownwards: Rule = (files) =>
  eachReference(files, (file, { target, isUrl }) => {
    const from = folderOf(file.path);
    const to = folderOf(target);
    if (isUrl || from === undefined || from === to) return undefined;
    if (to === undefined) return `imports ${target}, which is not in src: move what is needed into src`;
    const [fromFloor, toFloor] = [FLOORS[from] ?? -1, FLOORS[to] ?? Infinity];
    if (toFloor < fromFloor) return undefined;
    const where = toFloor === fromFloor ? "beside" : "above";
    return `imports ${target}, ${where} its floor: use an event of base/events.ts, or declare a port that daemon/compose hands in`;
  });

export const foldersAreEnteredByTheirDoors: Rule = (files) =>
  eachReference(files, (file, { target, isUrl }) => {
    const from = folderOf(file.path);
    if (from === folderOf(target) || file.path === ROOM_KEY) return undefined;
    // An asset of the package (a JSON schema, a page of the dashboard) is no module.
    if (isUrl) return target.startsWith("src/") ? `names ${target} by URL: only its own folder may` : undefined;
    if (!isRoom(target)) return undefined;
    return `enters the room ${target}: import what src/${String(folderOf(target))}/ offers at its door, or add a door`;
  });

export const configIsReadByDaemonAndCli: Rule = (files) =>
  eachReference(files, (file, { target }) => {
    const from = folderOf(file.path);
    if (folderOf(target) !== "config" || from === "config" || from === "daemon" || from === "cli") return undefined;
    return `reads ${target}: declare a plain options object and let daemon/compose fill it`;
  });

export const childProcessesAreNamed: Rule = (files) => {
  const complaints: Complaint[] = [];
  for (const file of files) {
    for (const { node, specifier } of references(file)) {
      if (!/^(node:)?child_process$/.test(specifier)) continue;
      const allowed = CHILD_PROCESS_USERS.filter(({ path }) => file.path.startsWith(path)).map(({ name }) => name);
      for (const name of valueNames(node)) {
        if (allowed.includes(name)) continue;
        complaints.push(complaintAt(file, node, `imports ${name} of child_process: use runProgram of base/spawn.ts`));
      }
    }
  }
  return complaints;
};

/** Names that an import brings as values; "*" for all of them. */
function valueNames(node: ts.Node): string[] {
  if (!ts.isImportDeclaration(node)) return ["*"];
  const clause = node.importClause;
  if (clause === undefined || clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return [];
  const names: string[] = clause.name === undefined ? [] : ["default"];
  if (clause.namedBindings === undefined) return names;
  if (ts.isNamespaceImport(clause.namedBindings)) return [...names, "*"];
  const elements = clause.namedBindings.elements.filter(({ isTypeOnly }) => !isTypeOnly);
  return [...names, ...elements.map(({ name, propertyName }) => (propertyName ?? name).text)];
}

/** Imports of types count too: two files that need each other's types are one subject, or miss a third file. */
export const noCircles: Rule = (files) => {
  const edges = new Map(files.map((file) => [file.path, references(file).filter(({ isUrl }) => !isUrl)]));
  const byPath = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const complaints: Complaint[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (done.has(path)) return;
    for (const { node, target } of edges.get(path) ?? []) {
      if (target === undefined) continue;
      const here = [...trail, path];
      const start = here.indexOf(target);
      const file = byPath.get(path);
      if (start >= 0 && file !== undefined) {
        const circle = [...here.slice(start), target].join(" -> ");
        complaints.push(complaintAt(file, node, `closes a circle (${circle}): move what both need into a third file`));
      } else if (start < 0) visit(target, here);
    }
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return complaints;
};
