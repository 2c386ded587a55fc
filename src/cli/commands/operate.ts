/** Commands of the person who runs holdfast: init, daemon, keys, alerts, config, doctor, explain, completion. */
import { writeFile } from "node:fs/promises";
import type { Page } from "../../api/paging.js";
import type { AlertDocument, RecoveryKeyDocument } from "../../api/services.js";
import { ERROR_CODES, EXIT } from "../../base/error-codes.js";
import { HoldfastError } from "../../base/errors.js";
import { counted, parseDurationMs } from "../../base/units.js";
import { type CommandContext, type CommandSpec, type Options, argument, isSet, textOption } from "../command.js";
import { daemonOptions, launchOptions } from "../foreground.js";
import { printable } from "../output.js";
import { timeText } from "../time.js";

export const operateCommands: readonly CommandSpec[] = [
  {
    name: "init",
    summary: "Make a repository and print its recovery key once.",
    options: [
      { flags: "--encrypt", description: "encrypt (default)" },
      { flags: "--no-encrypt", description: "do not encrypt" },
    ],
    examples: [
      "holdfast init --store /var/backups/holdfast",
      "holdfast init --store /mnt/nas/holdfast --password-file /root/password",
    ],
    run: init,
  },
  {
    name: "daemon",
    summary: "Run in the foreground: what systemd starts.",
    options: [{ flags: "--no-encrypt", description: "make an unencrypted repository when there is none" }],
    examples: ["holdfast daemon", "holdfast daemon --config /etc/holdfast/holdfast.yaml"],
    run: async (context, _args, options) => {
      const { runDaemon } = await import("../../daemon/main.js");
      return await runDaemon(daemonOptions(context, options, []));
    },
  },
  {
    name: "keys list",
    isDefault: true,
    summary: "List what opens the repository; never the keys themselves.",
    examples: ["holdfast keys"],
    run: listKeys,
  },
  {
    name: "keys recovery",
    summary:
      "Show the recovery key again; where a password opens the repository, make a new one (older ones stay valid).",
    examples: ["holdfast keys recovery"],
    run: async (context) => {
      const api = await context.api("alone");
      const shown = await api.post<RecoveryKeyDocument>("/keys/recovery", {}, context.signal);
      if (context.output.json) context.output.document(shown);
      else printRecoveryKey(context, shown.recovery_key);
      if (shown.new) context.output.say("This one is new. Those that were given out before stay valid.");
      return EXIT.ok;
    },
  },
  {
    name: "alerts list",
    isDefault: true,
    summary: "List alerts that are active.",
    options: [{ flags: "--all", description: "also the resolved ones" }],
    examples: ["holdfast alerts", "holdfast alerts list --all --json"],
    run: listAlerts,
  },
  {
    name: "alerts ack",
    summary: "Acknowledge an alert.",
    arguments: [{ name: "id", description: "id of the alert" }],
    examples: ["holdfast alerts ack alert_4579e89406"],
    run: async (context, args) => {
      const api = await context.api("daemon");
      const path = `/alerts/${encodeURIComponent(argument(args, 0))}/ack`;
      const alert = await api.post<AlertDocument>(path, {}, context.signal);
      if (context.output.json) context.output.document(alert);
      else context.output.print(`${printable(alert.id)} is acknowledged`);
      return EXIT.ok;
    },
  },
  {
    name: "alerts silence",
    summary: "Say nothing about a condition for a while.",
    arguments: [{ name: "condition", description: "name of the condition, such as file_recovered" }],
    options: [{ flags: "--for <duration>", description: "how long (default: 1h)" }],
    examples: ["holdfast alerts silence file_recovered --for 2h"],
    run: async (context, args, options) => {
      const seconds = parseDurationMs(textOption(options, "for") ?? "1h") / 1000;
      const api = await context.api("daemon");
      const body = { condition: argument(args, 0), duration_seconds: seconds };
      const done = await api.post<unknown>("/alerts/silence", body, context.signal);
      if (context.output.json) context.output.document(done);
      else context.output.print(`${printable(body.condition)} is silent`);
      return EXIT.ok;
    },
  },
  {
    name: "alerts test",
    summary: "Send a test message through a channel now.",
    arguments: [{ name: "channel", description: "name of the channel" }],
    examples: ["holdfast alerts test ops"],
    run: async (context, args) => {
      const api = await context.api("daemon");
      const done = await api.post<unknown>(`/alerts/test/${encodeURIComponent(argument(args, 0))}`, {}, context.signal);
      if (context.output.json) context.output.document(done);
      else context.output.print(`delivered through ${printable(argument(args, 0))}`);
      return EXIT.ok;
    },
  },
  {
    name: "config check",
    isDefault: true,
    summary: "Check the configuration file; exit code 78 when it is wrong.",
    examples: ["holdfast config check", "holdfast config check --config ./holdfast.yaml"],
    run: checkConfig,
  },
  {
    name: "config show",
    summary: "Show the configuration with its defaults; secrets are never shown.",
    examples: ["holdfast config show"],
    run: async (context) => {
      context.output.document(await loadHere(context));
      return EXIT.ok;
    },
  },
  {
    name: "config reload",
    summary: "Let the daemon take the configuration anew: all of it or nothing.",
    examples: ["holdfast config reload"],
    run: async (context) => {
      const api = await context.api("daemon");
      const done = await api.post<{ plan: readonly string[] }>("/config/reload", {}, context.signal);
      if (context.output.json) context.output.document(done);
      else
        for (const line of done.plan.length === 0 ? ["nothing changes"] : done.plan)
          context.output.print(printable(line));
      return EXIT.ok;
    },
  },
  {
    name: "config schema",
    summary: "Print the JSON Schema of the configuration file, for editors.",
    options: [{ flags: "--output <file>", description: "write it to a file" }],
    examples: ["holdfast config schema > holdfast.schema.json"],
    run: printSchema,
  },
  {
    name: "doctor",
    summary: "Look for what would keep holdfast from protecting or healing; every finding has its fix.",
    examples: ["holdfast doctor", "holdfast doctor --json"],
    run: async (context) => {
      const { examine } = await import("../doctor.js");
      const findings = await examine(context);
      if (context.output.json) context.output.document(findings);
      else {
        for (const finding of findings) {
          const mark = {
            ok: context.output.good("ok  "),
            warning: context.output.careful("WARN"),
            error: context.output.bad("FAIL"),
          };
          context.output.print(`${mark[finding.severity]}  ${finding.id.padEnd(18)} ${printable(finding.detail)}`);
          if (finding.fix !== "") context.output.print(`      Fix: ${printable(finding.fix)}`);
        }
      }
      return findings.some((finding) => finding.severity === "error") ? EXIT.failed : EXIT.ok;
    },
  },
  {
    name: "explain",
    summary: "Explain an error code or an exit code, or which rule decides about a path and why.",
    arguments: [{ name: "what", description: "an error code such as REPO_LOCKED, an exit code such as 11, or a path" }],
    examples: ["holdfast explain REPO_LOCKED", "holdfast explain /srv/app/config.json"],
    run: async (context, args) => {
      const { explainCode, explainExit, explainPath } = await import("../explain.js");
      const what = argument(args, 0);
      if (Object.hasOwn(ERROR_CODES, what.toUpperCase())) explainCode(context, what.toUpperCase());
      else if (!explainExit(context, what)) await explainPath(context, what);
      return EXIT.ok;
    },
  },
];

async function init(context: CommandContext, _args: readonly string[], options: Options): Promise<number | undefined> {
  const { initRepository } = await import("../../daemon/standalone.js");
  const encrypt = options["encrypt"];
  const made = await initRepository({
    ...launchOptions(context),
    signal: context.signal,
    ...(typeof encrypt === "boolean" ? { encrypt } : {}),
  });
  const recoveryKey = made.recoveryKey?.reveal() ?? null;
  const { output } = context;
  if (output.json) {
    const { repositoryId, storeUrl, encrypted, keyFile } = made;
    output.document({
      repository_id: repositoryId,
      store: storeUrl,
      encrypted,
      key_file: keyFile ?? null,
      recovery_key: recoveryKey,
    });
    return EXIT.ok;
  }
  output.print(`made the repository ${made.repositoryId.slice(0, 16)} at ${printable(made.storeUrl)}`);
  output.print(made.encrypted ? "  encrypted with AES-256-GCM" : "  NOT encrypted");
  if (made.keyFile !== undefined) output.print(`  key file  ${printable(made.keyFile)}`);
  if (recoveryKey !== null) printRecoveryKey(context, recoveryKey);
  output.say("Next: holdfast daemon, or holdfast protect PATH");
  return EXIT.ok;
}

function printRecoveryKey(context: CommandContext, key: string): void {
  context.output.print(`  recovery key  ${key}`);
  context.output.print(
    "  Write it down and keep it away from this machine: with it and the store everything comes back.",
  );
}

async function listKeys(context: CommandContext): Promise<number | undefined> {
  const api = await context.api("alone");
  const page = await api.get<Page>("/keys", context.signal);
  const keys = page.items as readonly { id: string; kind: string; created_at: string }[];
  if (context.output.json) context.output.document(keys);
  else {
    const rows = keys.map((key) => [key.id.slice(0, 16), key.kind, timeText(key.created_at)]);
    context.output.table([{ title: "SLOT" }, { title: "KIND" }, { title: "MADE" }], rows);
  }
  return EXIT.ok;
}

async function listAlerts(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const api = await context.api("daemon");
  const page = await api.get<Page>(`/alerts${isSet(options, "all") ? "?all=true" : ""}`, context.signal);
  const alerts = page.items as readonly AlertDocument[];
  if (context.output.json) context.output.document(alerts);
  else {
    const columns = [
      { title: "ALERT" },
      { title: "SEVERITY" },
      { title: "STATE" },
      { title: "SINCE" },
      { title: "TIMES", align: "right" },
      { title: "WHAT" },
    ] as const;
    const rows = alerts.map((alert) => [
      alert.id,
      alert.severity,
      alert.state,
      timeText(alert.since),
      String(alert.count),
      alert.summary,
    ]);
    context.output.table(columns, rows);
  }
  return EXIT.ok;
}

async function loadHere(context: CommandContext, forThisMachine = false): Promise<unknown> {
  const { loadConfiguration } = await import("../../config/load.js");
  const { config, stateDir, socket, store } = context.globals;
  return await loadConfiguration({
    forThisMachine,
    ...(config === undefined ? {} : { configFile: config }),
    ...(stateDir === undefined ? {} : { stateDir }),
    ...(socket === undefined ? {} : { socket }),
    ...(store === undefined ? {} : { storeUrl: store }),
    env: context.env,
  });
}

async function checkConfig(context: CommandContext): Promise<number | undefined> {
  const loaded = (await loadHere(context, true)) as {
    readonly file?: string;
    readonly sources: readonly unknown[];
    readonly warnings: readonly string[];
  };
  const { output } = context;
  for (const warning of loaded.warnings) output.say(`warning: ${printable(warning)}`);
  if (output.json) output.document({ file: loaded.file ?? null, ok: true, warnings: loaded.warnings });
  else
    output.print(
      loaded.file === undefined
        ? "there is no configuration file; the embedded defaults hold"
        : `${printable(loaded.file)} is good (${counted(loaded.sources.length, "source")})`,
    );
  return EXIT.ok;
}

async function printSchema(
  context: CommandContext,
  _args: readonly string[],
  options: Options,
): Promise<number | undefined> {
  const { configJsonSchema } = await import("../../config/json-schema.js");
  const file = textOption(options, "output");
  if (file === undefined) {
    context.output.document(configJsonSchema());
    return EXIT.ok;
  }
  await writeFile(file, `${JSON.stringify(configJsonSchema(), undefined, 2)}\n`).catch((error: unknown) => {
    throw new HoldfastError("TARGET_IO", `cannot write ${file}`, { cause: error });
  });
  return EXIT.ok;
}
