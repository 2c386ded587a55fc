/** The house rules about single files: their opening, size, names, exports, and the few calls that have one home. */
import ts from "typescript";
import { type Complaint, type Rule, type SourceText, complaintAt, lineOf, walk } from "./source.js";

const FILE_LINES_MAX = 500;
const FUNCTION_LINES_MAX = 70;
const PARAMETERS_MAX = 4;
const PORT_METHODS_MAX = 12;
/** Folders between src and the file. */
const FOLDERS_MAX = 3;
/** A head comment shorter than this says nothing. */
const HEAD_COMMENT_CHARACTERS_MIN = 20;

/** Calls that may stand in a few files only. */
const HOMES: readonly { readonly call: string; readonly homes: readonly string[]; readonly instead: string }[] = [
  { call: "Date.now", homes: ["src/base/clock.ts"], instead: "take a Clock (base/clock.ts) and call nowMs()" },
  {
    call: "process.exit",
    homes: ["src/cli/main.ts", "src/daemon/main.ts"],
    instead: "return, or throw a HoldfastError",
  },
  { call: "console", homes: ["src/cli/output.ts"], instead: "use the Observer's log, or cli/output.ts" },
];

export const eachFileOpensWithItsPurpose: Rule = (files) =>
  files.flatMap((file) => {
    const comment = headComment(file.text);
    if (comment.length >= HEAD_COMMENT_CHARACTERS_MIN) return [];
    return [
      { path: file.path, line: 1, message: "does not say what it is for: open it with a comment of one sentence" },
    ];
  });

/** The text of the comment that a file opens with (after `#!` and compiler directives), without its marks. */
export function headComment(text: string): string {
  const body = text.replace(/^#!.*\n/, "").trimStart();
  const block = /^\/\*\*?([\s\S]*?)\*\//.exec(body)?.[1];
  const lines = block ?? /^(?:\/\/.*\n?)+/.exec(body)?.[0] ?? "";
  return lines
    .split("\n")
    .map((line) => line.replace(/^\s*(?:\/\/|\*)?\s?/, "").trim())
    .join(" ")
    .trim();
}

export const callsStayInTheirHomes: Rule = (files) => {
  const complaints: Complaint[] = [];
  for (const file of files) {
    walk(file.tree, (node) => {
      const home = HOMES.find(({ call }) => isUseOf(node, call));
      if (home !== undefined && !home.homes.includes(file.path)) {
        const message = `uses ${home.call}, at home in ${home.homes.join(" and ")}: ${home.instead}`;
        complaints.push(complaintAt(file, node, message));
      }
      if (isNow(node) && file.path !== "src/base/clock.ts")
        complaints.push(complaintAt(file, node, "asks for the time by new Date(): take a Clock (base/clock.ts)"));
    });
  }
  return complaints;
};

function isUseOf(node: ts.Node, call: string): boolean {
  if (!ts.isPropertyAccessExpression(node) || !ts.isIdentifier(node.expression)) return false;
  return node.expression.text === call || `${node.expression.text}.${node.name.text}` === call;
}

function isNow(node: ts.Node): boolean {
  if (!ts.isNewExpression(node) || !ts.isIdentifier(node.expression) || node.expression.text !== "Date") return false;
  return node.arguments === undefined || node.arguments.length === 0;
}

export const exportsAreNamed: Rule = (files) => {
  const complaints: Complaint[] = [];
  for (const file of files) {
    for (const statement of file.tree.statements) {
      const isDefault =
        ts.isExportAssignment(statement) ||
        (ts.canHaveModifiers(statement) &&
          ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword) === true);
      if (isDefault) complaints.push(complaintAt(file, statement, "has a default export: give it a name"));
      if (ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined && isStar(statement))
        complaints.push(complaintAt(file, statement, "re-exports everything of a file: let users import from it"));
    }
  }
  return complaints;
};

function isStar(statement: ts.ExportDeclaration): boolean {
  return statement.exportClause === undefined || ts.isNamespaceExport(statement.exportClause);
}

export const filesAreNamedAndPlaced: Rule = (files) =>
  files.flatMap(({ path }) => {
    const names = path.split("/");
    const complaints: Complaint[] = [];
    const complain = (message: string): void => void complaints.push({ path, line: 1, message });
    if (names.at(-1) === "index.ts") complain("is a barrel: name the file after its one subject");
    if (names.length - 2 > FOLDERS_MAX)
      complain(`lies more than ${String(FOLDERS_MAX)} folders below its top: flatten`);
    const odd = names.find((name) => !/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.test)?(?:\.ts)?$/.test(name));
    if (odd !== undefined) complain(`has the name "${odd}": use kebab-case`);
    return complaints;
  });

export const filesAndFunctionsAreShort: Rule = (files) =>
  files.flatMap((file) => [...longFile(file), ...longFunctions(file)]);

function longFile(file: SourceText): Complaint[] {
  const lines = file.text.trimEnd().split("\n").length;
  if (lines <= FILE_LINES_MAX) return [];
  return [
    {
      path: file.path,
      line: lines,
      message: `has ${String(lines)} lines, of ${String(FILE_LINES_MAX)}: split it by subject`,
    },
  ];
}

function longFunctions(file: SourceText): Complaint[] {
  const complaints: Complaint[] = [];
  walk(file.tree, (node) => {
    if (!ts.isFunctionLike(node) || !("body" in node) || node.body === undefined) return;
    const lines = lineOf(file, node.getEnd()) - lineOf(file, node.getStart(file.tree)) + 1;
    // describe() blocks are chapters of a book, not functions with a length.
    const isChapter = file.path.startsWith("test/") && ts.isArrowFunction(node);
    if (lines > FUNCTION_LINES_MAX && !isChapter)
      complaints.push(
        complaintAt(file, node, `is a function of ${String(lines)} lines, of ${String(FUNCTION_LINES_MAX)}: split it`),
      );
    if (node.parameters.length > PARAMETERS_MAX)
      complaints.push(
        complaintAt(
          file,
          node,
          `takes ${String(node.parameters.length)} parameters, of ${String(PARAMETERS_MAX)}: take an options object`,
        ),
      );
  });
  return complaints;
}

export const portsAreSmall: Rule = (files) => {
  const complaints: Complaint[] = [];
  for (const file of files) {
    for (const statement of file.tree.statements) {
      if (!ts.isInterfaceDeclaration(statement)) continue;
      const methods = statement.members.filter((member) => isMethod(member)).length;
      if (methods <= PORT_METHODS_MAX) continue;
      const message = `has ${String(methods)} methods, of ${String(PORT_METHODS_MAX)}: split the port by its users`;
      complaints.push(complaintAt(file, statement.name, message));
    }
  }
  return complaints;
};

function isMethod(member: ts.TypeElement): boolean {
  if (ts.isMethodSignature(member)) return true;
  return ts.isPropertySignature(member) && member.type !== undefined && ts.isFunctionTypeNode(member.type);
}

export const todosHaveAnIssue: Rule = (files) =>
  files.flatMap((file) =>
    [...file.text.matchAll(/\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\))/g)].map((match) => ({
      path: file.path,
      line: lineOf(file, match.index),
      message: "has a note for later without an issue: do it now, or write TODO(#number)",
    })),
  );

export const noTestIsAlone: Rule = (files) => {
  const complaints: Complaint[] = [];
  for (const file of files) {
    walk(file.tree, (node) => {
      if (!ts.isPropertyAccessExpression(node) || node.name.text !== "only" || !ts.isIdentifier(node.expression))
        return;
      if (["describe", "it", "context"].includes(node.expression.text))
        complaints.push(complaintAt(file, node, "keeps all other tests from running: take .only away"));
    });
  }
  return complaints;
};
