/** Commands about the audit log: who did what, and whether the record is whole. */
import type { AuditDocument, AuditVerificationDocument } from "../../api/audit-service.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError } from "../../base/errors.js";
import { counted } from "../../base/units.js";
import { type CommandContext, type CommandSpec, type Options, textOption } from "../command.js";
import { printable } from "../output.js";
import { timeText } from "../time.js";

const LISTED_DEFAULT = "50";
const LISTED_MAX = 1000;

export const auditCommands: readonly CommandSpec[] = [
  {
    name: "audit list",
    isDefault: true,
    summary: "Show who did what, newest first.",
    options: [{ flags: "--limit <count>", description: `entries at most (default: ${LISTED_DEFAULT})` }],
    examples: ["holdfast audit", "holdfast audit list --limit 500 --json"],
    run: listAudit,
  },
  {
    name: "audit verify",
    summary: "Follow the hash chain of the audit log; exit code 4 when an entry was changed, removed or put in.",
    examples: ["holdfast audit verify"],
    run: async (context) => {
      const api = await context.api("alone");
      const told = await api.get<AuditVerificationDocument>("/audit/verify", context.signal);
      if (context.output.json) context.output.document(told);
      else {
        for (const problem of told.problems)
          context.output.print(`${context.output.bad("FAULT")}  ${printable(problem)}`);
        const end = told.last === null ? "" : `; the newest is ${told.last.seq}, ${told.last.hash}`;
        const verdict = told.problems.length === 0 ? "the chain is whole" : counted(told.problems.length, "fault");
        context.output.print(`${told.entries} entries, ${verdict}${end}`);
      }
      return told.problems.length === 0 ? EXIT.ok : EXIT.damage;
    },
  },
];

async function listAudit(context: CommandContext, _args: readonly string[], options: Options): Promise<number> {
  const limit = Number(textOption(options, "limit") ?? LISTED_DEFAULT);
  if (!Number.isInteger(limit) || limit < 1 || limit > LISTED_MAX)
    throw new HoldfastError("USAGE", `--limit is a number from 1 to ${LISTED_MAX}`);
  const api = await context.api("alone");
  const page = await api.get<{ readonly items: readonly unknown[] }>(`/audit?limit=${limit}`, context.signal);
  const entries = page.items as readonly AuditDocument[];
  if (context.output.json) {
    context.output.document(entries);
    return EXIT.ok;
  }
  const columns = [{ title: "WHEN" }, { title: "WHAT" }, { title: "BY" }, { title: "DETAIL" }];
  const rows = entries.map(({ at, action, by, detail }) => [timeText(at), action, by, detailText(detail)]);
  context.output.table(columns, rows);
  return EXIT.ok;
}

function detailText(detail: AuditDocument["detail"]): string {
  return Object.entries(detail)
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
