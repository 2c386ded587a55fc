/** Commands about the upkeep of the repository: repair, and the keys that open it. */
import { readFile } from "node:fs/promises";
import type { JobDocument } from "../../api/services.js";
import type { KeyDocument, RepairDocument, RotationDocument } from "../../api/upkeep-service.js";
import { EXIT } from "../../base/error-codes.js";
import { HoldfastError, messageOf } from "../../base/errors.js";
import { formatSize } from "../../base/units.js";
import { type CommandContext, type CommandSpec, type Options, argument, isSet, textOption } from "../command.js";
import { printable } from "../output.js";

const LISTED_MAX = 20;
const NEW_PASSWORD = "HOLDFAST_NEW_PASSWORD";
const newPasswordOption = {
  flags: "--new-password-file <file>",
  description: `file with the new password (or set ${NEW_PASSWORD})`,
};

export const upkeepCommands: readonly CommandSpec[] = [
  {
    name: "repair",
    summary: "Make good what is damaged in the repository: from parity, another copy, or the live files.",
    options: [
      { flags: "--from <place>", description: "folder with another copy of this repository" },
      { flags: "--read-data", description: "read and prove everything stored first" },
      { flags: "--dry-run", description: "only tell what could be repaired" },
    ],
    examples: ["holdfast repair --dry-run", "holdfast repair --read-data --from /mnt/nas/holdfast"],
    run: repair,
  },
  {
    name: "keys add",
    summary: "Add a password that opens the repository; the keys that are there stay valid.",
    options: [newPasswordOption],
    examples: ["holdfast keys add --new-password-file /root/second-password"],
    run: async (context, _args, options) => {
      const password = await newPassword(context, options);
      if (password === undefined)
        throw new HoldfastError("USAGE", "no new password was given", { hint: "Add --new-password-file FILE." });
      const api = await context.api("alone");
      const key = await api.post<KeyDocument>("/keys", { password }, context.signal);
      if (context.output.json) context.output.document(key);
      else context.output.print(`added the ${key.kind} ${key.id.slice(0, 16)}`);
      return EXIT.ok;
    },
  },
  {
    name: "keys remove",
    summary: "Remove a key, a damaged one too; never the last one, nor the one in use.",
    arguments: [{ name: "id", description: "id of the key, or a unique beginning of it (holdfast keys)" }],
    examples: ["holdfast keys remove 3f8a91c0"],
    run: async (context, args) => {
      const api = await context.api("alone");
      const key = await api.delete<KeyDocument>(`/keys/${encodeURIComponent(argument(args, 0))}`, context.signal);
      if (context.output.json) context.output.document(key);
      else context.output.print(`removed the ${key.kind} ${key.id.slice(0, 16)}`);
      return EXIT.ok;
    },
  },
  {
    name: "keys rotate",
    summary: "Seal new data under a new master key; retires every key but the one in use, makes a new recovery key.",
    options: [newPasswordOption],
    examples: ["holdfast keys rotate", "holdfast keys rotate --new-password-file /root/new-password"],
    run: rotate,
  },
];

/** The new password of an option or the environment, or undefined. Throws SECRET_UNREADABLE. */
async function newPassword(context: CommandContext, options: Options): Promise<string | undefined> {
  const file = textOption(options, "newPasswordFile");
  const given = context.env[NEW_PASSWORD];
  if (file === undefined) return given === "" ? undefined : given;
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    const message = `the password file ${file} cannot be read: ${messageOf(error)}`;
    throw new HoldfastError("SECRET_UNREADABLE", message, { cause: error });
  });
  const password = text.replace(/\r?\n$/, "");
  if (password === "") throw new HoldfastError("SECRET_UNREADABLE", `the password file ${file} is empty`);
  return password;
}

async function rotate(context: CommandContext, _args: readonly string[], options: Options): Promise<number> {
  const password = await newPassword(context, options);
  const api = await context.api("alone");
  const body = password === undefined ? {} : { new_password: password };
  const rotation = await api.post<RotationDocument>("/keys/rotate", body, context.signal);
  const { output } = context;
  if (output.json) {
    output.document(rotation);
    return EXIT.ok;
  }
  output.print(`rotated: new data is under master key ${String(rotation.rotations)}, what is stored stays readable`);
  output.print(`  recovery key  ${rotation.recovery_key}`);
  output.print("  Write it down and keep it away from this machine: those given out before open nothing any more.");
  output.print(`  keys retired  ${String(rotation.keys_removed)}`);
  if (rotation.restart_needed) output.say("Restart the daemon: until then it goes on with the master key before.");
  if (password !== undefined) output.say("From now on only the new password opens the repository: configure it.");
  return EXIT.ok;
}

async function repair(context: CommandContext, _args: readonly string[], options: Options): Promise<number> {
  const from = textOption(options, "from");
  const body = {
    ...{ dry_run: isSet(options, "dryRun"), read_data: isSet(options, "readData") },
    ...(from === undefined ? {} : { from }),
  };
  const api = await context.api("alone");
  const job = await api.post<JobDocument>("/repository/repair", body, context.signal);
  const report = await context.follow<RepairDocument>(api, job);
  if (context.output.json) context.output.document(report);
  else printRepair(context, report);
  return report.problems.length > 0 ? EXIT.damage : EXIT.ok;
}

function printRepair({ output }: CommandContext, report: RepairDocument): void {
  output.print(report.problems.length === 0 ? output.good(report.summary) : output.bad(report.summary));
  const { parity, copy, live } = report.chunks_repaired;
  if (parity + copy + live > 0)
    output.print(`  from parity ${String(parity)}, from the copy ${String(copy)}, from live files ${String(live)}`);
  if (report.pack_bytes_restored > 0) output.print(`  packs restored ${formatSize(report.pack_bytes_restored)}`);
  if (report.parity_dropped > 0) output.print(`  damaged parity removed ${String(report.parity_dropped)}`);
  for (const key of report.objects_repaired.slice(0, LISTED_MAX)) output.print(`  repaired ${printable(key)}`);
  for (const problem of report.problems.slice(0, LISTED_MAX)) {
    output.print(`  ${problem.kind}  ${printable(problem.detail)}`);
    for (const path of problem.paths.slice(0, 3)) output.print(`    hits ${printable(path.path)}`);
  }
  if (report.problems.length > LISTED_MAX)
    output.print(`  and ${String(report.problems.length - LISTED_MAX)} more; see --json`);
  if (report.restart_needed) output.say("Commits came back: run it again (restart the daemon first, if one runs).");
  else if (!report.dry_run && parity + copy + live > 0) output.say("Next: holdfast gc removes the damaged packs.");
}
