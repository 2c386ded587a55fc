/** Loading a configuration: what is written is what is meant, and every kind of mistake is told with its place. */
import { expect } from "chai";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode } from "../../src/base/errors.js";
import { pathText } from "../../src/base/paths.js";
import { CONDITIONS } from "../../src/alerts/rules.js";
import { ALERT_CONDITIONS, type Configuration } from "../../src/config/configuration.js";
import { loadConfiguration } from "../../src/config/load.js";
import { alertRules } from "../../src/daemon/telling.js";
import { useTempFolder } from "../support/temp-folder.js";

const folder = useTempFolder("config");

async function load(text: string): Promise<Configuration> {
  const file = await folder().write("holdfast.yaml", text);
  return await loadConfiguration({ configFile: file, env: { HOME: folder().path }, isRoot: false });
}

/** The lines of the error, without the folder. */
async function faults(text: string): Promise<string[]> {
  const thrown = await load(text).then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!hasCode(thrown, "CONFIG_INVALID")) throw new Error(`no CONFIG_INVALID but ${String(thrown)}`);
  return thrown.message.split("\n").map((line) => line.replace(`${folder().path}/`, ""));
}

describe("a configuration file", () => {
  it("of three lines is enough", async () => {
    const loaded = await load("store: /backups\nsources:\n  - /srv/app\n");
    expect(loaded.storeUrl).to.equal("/backups");
    expect(loaded.sources).to.have.length(1);
    const [source] = loaded.sources;
    expect(source).to.include({ name: "app", priority: "medium", rpoMs: 900_000, rtoMs: 600_000, graceMs: 500 });
    expect(source?.onDelete).to.equal(undefined);
    expect(source?.paths.map(pathText)).to.deep.equal(["/srv/app"]);
    const chain = source?.recover[0]?.chain.map((step) => step.strategy);
    expect(chain).to.deep.equal([
      ...[
        "latest_backup",
        "fs_snapshots",
        "git_history",
        "package_manager",
        "temp_files",
        "sqlite_wal",
        "manual_recovery",
      ],
    ]);
    expect(loaded.schedule).to.deep.equal([
      { name: "every", type: "incremental", when: { kind: "every", everyMs: 21_600_000 }, sources: [] },
    ]);
    expect(loaded.rotation).to.include({ hourly: 24, daily: 7, weekly: 4, monthly: 12, yearly: 5, minCopies: 2 });
    expect(loaded.mass).to.deep.equal({ files: 50, share: 0.2, minFiles: 10, withinMs: 60_000, then: "hold" });
    expect(loaded.socket).to.include({ mode: 0o600, others: "refuse" });
    expect((await load("access: {socket: {group: root}}\n")).socket.mode).to.equal(0o660);
    expect(loaded.encryption).to.include({ enabled: true, cipher: "aes-256-gcm", kdf: "pbkdf2-sha256" });
  });

  it("that is empty holds the defaults", async () => {
    const loaded = await load("# nothing yet\n");
    expect(loaded.sources).to.deep.equal([]);
    expect(loaded.storeUrl).to.equal(folder().at(".local/share/holdfast/store"));
    expect(loaded.stateDir).to.equal(folder().at(".local/state/holdfast"));
  });

  it("gives every setting of a source", async () => {
    const loaded = await load(`
store: ./store
defaults: {rpo: 30m, exclude: [.cache/], compress: "zstd:7"}
sources:
  - name: conversations
    paths: ["/srv/bot/kb_*.json", ./local.json]
    priority: critical
    backup_frequency: hourly
    rpo: 1h
    rto: 5m
    on_delete: hold
    settle: 2s
    exclude: ["*.tmp"]
    max_size: 2GiB
    rules: [{match: "**/*.log", mode: mirror}]
    validate:
      - {match: "*.json", schema: schema.json}
      - match: "*.json"
        rules: {required: [session_id], unique: [session_id], timestamps: [time], items: {path: messages, required: [role]}}
      - {match: "nginx/**", command: [nginx, -t, -c, "{file}"], timeout: 3s}
    recover:
      - match: "**"
        chain: [{strategy: latest_backup, max_age_hours: 1, max_versions: 5}, {strategy: temp_files, homes: [/home/a], swap_dirs: [/swap], max_age_hours: 2}, {strategy: regenerate, script: [/bin/make-it], timeout: 2m}]
`);
    const [source] = loaded.sources;
    expect(loaded.storeUrl).to.equal(folder().at("store"));
    expect(source).to.include({
      rpoMs: 3_600_000,
      rtoMs: 300_000,
      onDelete: "hold",
      graceMs: 2000,
      sizeBytesMax: 2 ** 31,
    });
    expect(source?.frequency).to.deep.equal({ kind: "hourly", minute: 0 });
    expect(source?.exclude).to.deep.equal([".cache/", "*.tmp"]);
    expect(source?.compression).to.deep.equal({ kind: "zstd", level: 7 });
    expect(source?.paths.map(pathText)).to.deep.equal(["/srv/bot/kb_*.json", folder().at("local.json")]);
    expect(source?.validate[0]).to.include({ json: true, schemaFile: folder().at("schema.json"), timeoutMs: 10_000 });
    expect(source?.validate[1]?.rules?.items).to.deep.equal({ path: "messages", required: ["role"] });
    expect(source?.validate[2]).to.deep.include({ command: ["nginx", "-t", "-c", "{file}"], timeoutMs: 3000 });
    expect(source?.recover[0]?.chain).to.deep.equal([
      { strategy: "latest_backup", parameters: { max_age_hours: 1, max_versions: 5 } },
      { strategy: "temp_files", parameters: { homes: ["/home/a"], swap_dirs: ["/swap"], max_age_hours: 2 } },
      { strategy: "regenerate", parameters: { script: ["/bin/make-it"], timeout_ms: 120_000 } },
    ]);
    expect(loaded.schedule.map((entry) => entry.name)).to.deep.equal(["every", "source-conversations"]);
  });

  it("gives schedules, alerts and the rest", async () => {
    const loaded = await load(`
sources: [{name: a, path: /a}]
schedule:
  hourly: {enabled: true, type: incremental}
  daily: {time: "02:30", sources: [a]}
  weekly: {enabled: false}
  monthly: {day: 31}
  before_deployment: {type: snapshot}
  cron: [{name: often, line: "*/10 8-18 * * mon-fri"}]
  time_zone: Europe/Berlin
tiers: {hot: {keep: 14d}}
alerts:
  channels:
    ops: {slack: {webhook: {credential: slack.url}}}
    mail: {email: {smtp: "smtps://mail.example.org", from: a@example.org, to: [b@example.org], user: u, password: {env: PW}}}
  rules:
    - {when: storage_full, threshold: 90%, actions: [ops], auto_cleanup: true}
    - {when: backup_failed, severity: critical, auto_retry: {times: 3, backoff: 10s}}
access: {socket: {path: ./h.sock, group: root, mode: "0660", others: viewer}}
metrics: {listen: "127.0.0.1:9876", token: {file: /t}}
limits: {memory: 512MiB, workers: 3}
log: {level: debug}
mass: {then: heal, share: 5%}
`);
    expect(loaded.schedule).to.deep.equal([
      { name: "hourly", type: "incremental", when: { kind: "hourly", minute: 0 }, sources: [] },
      { name: "daily", type: "full", when: { kind: "daily", hour: 2, minute: 30 }, sources: ["a"] },
      { name: "monthly", type: "full", when: { kind: "monthly", date: 31, hour: 4, minute: 0 }, sources: [] },
      { name: "before_deployment", type: "snapshot", when: { kind: "manual" }, sources: [] },
      { name: "often", type: "incremental", when: { kind: "cron", line: "*/10 8-18 * * mon-fri" }, sources: [] },
    ]);
    expect(loaded.timeZone).to.equal("Europe/Berlin");
    expect(loaded.versionsKeptMs).to.equal(14 * 86_400_000);
    expect(loaded.alerts.channels.map((channel) => channel.kind)).to.deep.equal(["slack", "email"]);
    expect(loaded.alerts.rules[0]).to.deep.include({ threshold: 0.9, actions: ["ops"], autoCleanup: true });
    expect(loaded.alerts.rules[1]).to.deep.include({
      actions: ["ops", "mail"],
      autoRetry: { times: 3, backoffMs: 10_000 },
    });
    expect(loaded.socket).to.deep.equal({ path: folder().at("h.sock"), group: "root", mode: 0o660, others: "viewer" });
    expect(loaded.limits).to.deep.equal({ memoryBytes: 2 ** 29, workers: 3 });
    expect(loaded.mass).to.include({ then: "heal", share: 0.05 });
  });

  it("joins included files, and tells faults at their own place", async () => {
    await mkdir(folder().at("conf.d"));
    await writeFile(folder().at("conf.d", "10-a.yaml"), "sources: [/a]\nalerts: {rules: [{when: file_lost}]}\n");
    await writeFile(folder().at("conf.d", "20-b.yaml"), "sources:\n  - {name: b, path: /b}\n");
    const loaded = await load('sources: [/main]\ninclude: ["conf.d/*.yaml"]\n');
    expect(loaded.sources.map((source) => source.name)).to.deep.equal(["main", "a", "b"]);
    await writeFile(folder().at("conf.d", "20-b.yaml"), "sources:\n  - {name: b, path: /b}\n  - {name: b, path: /c}\n");
    expect(await faults('sources: [/main]\ninclude: ["conf.d/*.yaml"]\n')).to.deep.equal([
      'conf.d/20-b.yaml:3:12 two sources are named "b"',
    ]);
    await writeFile(folder().at("conf.d", "20-b.yaml"), "store: /other\n");
    expect((await faults('store: /s\ninclude: ["conf.d/*.yaml"]\n'))[0]).to.contain(
      '"store" is set by another file already',
    );
  });

  it("leaves to each alert condition how loud it is, unless a rule says", async () => {
    const rules = ALERT_CONDITIONS.map((when) => `{when: ${when}, actions: []}`).join(", ");
    const { alerts } = await load(`alerts: {rules: [${rules}]}\n`);
    for (const when of ALERT_CONDITIONS)
      expect(alertRules(alerts).get(when)?.severity, when).to.equal(CONDITIONS[when].severity);
    const loud = await load("alerts: {rules: [{when: file_recovered, severity: critical}]}\n");
    expect(alertRules(loud.alerts).get("file_recovered")?.severity).to.equal("critical");
  });

  it("takes channels by any good name", async () => {
    const { alerts } = await load("alerts: {channels: {constructor: {slack: {webhook: {env: A}}}}}\n");
    expect(alerts.channels.map(({ name }) => name)).to.deep.equal(["constructor"]);
  });

  it("names sources after their paths and numbers what would be doubled", async () => {
    const loaded = await load('sources: [/srv/app, /opt/app, "/srv/bot/*.json", /, {name: app-2, path: /x}]\n');
    expect(loaded.sources.map((source) => source.name)).to.deep.equal(["app", "app-3", "bot", "root", "app-2"]);
  });

  it("warns of a time to keep that was hardly meant: `m` are minutes", async () => {
    const [warning = "none"] = (await load("tiers: {hot: {keep: 7m}}\n")).warnings;
    expect(warning).to.contain("7 m");
    expect((await load("tiers: {hot: {keep: 1h}}\n")).warnings).to.deep.equal([]);
  });

  it("warns of files that it names and that are not there: schemas and secrets", async () => {
    await folder().write("there", "s");
    const { warnings } = await load(`
sources: [{name: a, path: /a, validate: [{match: "*.json", schema: gone.json}, {match: "*", schema: there}]}]
alerts: {channels: {ops: {slack: {webhook: {file: hook}}}}}
encryption: {key: {file: there}}
`);
    expect(warnings).to.deep.equal([
      `the schema ${folder().at("gone.json")} of source a is not there: nothing is checked by it`,
      `the secret ${folder().at("hook")} is not there: the daemon does not start without it`,
    ]);
  });

  it("of another machine can be read: a group that is not here concerns only the daemon that would run here", async () => {
    const { socket, warnings } = await load("access: {socket: {group: no-such-group}}\n");
    expect(socket.group).to.equal("no-such-group");
    expect(warnings).to.deep.equal([]);
  });

  it("warns of paths that are protected twice", async () => {
    const loaded = await load("sources: [{name: a, path: /srv}, {name: b, path: /srv/app}]\n");
    expect(loaded.warnings).to.deep.equal(["/srv/app is protected twice: by source a and by source b"]);
  });
});

describe("a mistake in the configuration", () => {
  for (const [name, text, fault] of [
    [
      "a mistyped key",
      "store: /s\nrotaton: {daily: 3}\n",
      'holdfast.yaml:2:1 unknown key "rotaton"; did you mean "rotation"?',
    ],
    [
      "a mistyped key deep inside",
      "sources:\n  - name: a\n    paht: /a\n    path: /b\n",
      'holdfast.yaml:3:5 unknown key "paht"; did you mean "path"?',
    ],
    ["swapped letters", "roation: {}\n", 'holdfast.yaml:1:1 unknown key "roation"; did you mean "rotation"?'],
    ["a key like no other", "log: {zzz: 1}\n", 'holdfast.yaml:1:7 unknown key "zzz"; known here: level'],
    [
      "a duration without unit",
      "defaults: {rpo: 15}\n",
      'holdfast.yaml:1:17 "15" is a number, but text is needed here; write a number with a unit: 500ms, 30s, 15m, 6h, 7d or 2w',
    ],
    [
      "a duration in words",
      "defaults: {rpo: 5 minutes}\n",
      'holdfast.yaml:1:17 "5 minutes" is no duration; write a number with a unit: 500ms, 30s, 15m, 6h, 7d or 2w',
    ],
    [
      "a size without unit",
      "limits: {memory: '12'}\n",
      'holdfast.yaml:1:18 "12" is no size; write a number with a unit: 512KiB, 20MiB or 2GiB',
    ],
    ["a share without sign", "mass: {share: '20'}\n", 'holdfast.yaml:1:15 "20" is no share; write a share such as 5%'],
    [
      "a word that is near another",
      "defaults: {on_delete: heel}\n",
      'holdfast.yaml:1:23 "heel" is not allowed here; did you mean "heal"?',
    ],
    [
      "a word that is near none",
      "defaults: {priority: urgent}\n",
      'holdfast.yaml:1:22 "urgent" is not allowed here; one of critical, high, medium, low',
    ],
    [
      "a list where a mapping is due",
      "log: [debug]\n",
      "holdfast.yaml:1:6 a list stands here, but a mapping is needed",
    ],
    ["one source that is no list", "sources: /srv\n", 'holdfast.yaml:1:10 "/srv" is text, but a list is needed here'],
    [
      "a source that is a number",
      "sources: [42]\n",
      'holdfast.yaml:1:11 "42" is a number, but text or a mapping is needed here',
    ],
    [
      "a source without path",
      "sources: [{name: a}]\n",
      "holdfast.yaml:1:11 the source has no path; add path: or paths:",
    ],
    [
      "path and paths",
      "sources: [{path: /a, paths: [/b]}]\n",
      "holdfast.yaml:1:18 both path and paths are given; keep one of them",
    ],
    [
      "settle and grace",
      "sources: [{path: /a, settle: 1s, grace: 2s}]\n",
      "holdfast.yaml:1:41 both settle and grace are given; keep one of them",
    ],
    [
      "two sources of one name",
      "sources:\n  - {name: a, path: /a}\n  - {name: a, path: /b}\n",
      'holdfast.yaml:3:12 two sources are named "a"',
    ],
    [
      "a strategy of a later version",
      "sources: [{path: /a, recover: [{match: '**', chain: [{strategy: mongodb_export, database: crm}]}]}]\n",
      'holdfast.yaml:1:65 "mongodb_export" is not supported by this version yet; remove it',
    ],
    [
      "a mistyped strategy",
      "defaults: {recover: [git_histroy]}\n",
      'holdfast.yaml:1:22 "git_histroy" is not allowed here; did you mean "git_history"?',
    ],
    [
      "a wrong parameter of a strategy",
      "sources: [{path: /a, recover: [{match: '**', chain: [{strategy: latest_backup, max_age: 1}]}]}]\n",
      'holdfast.yaml:1:80 unknown key "max_age"; known here: strategy, max_age_hours, max_versions, at',
    ],
    [
      "a section of a later version",
      "databases: []\n",
      'holdfast.yaml:1:1 "databases" is not supported by this version yet; remove it',
    ],
    [
      "tiers of a later version",
      "tiers: {hot: {keep: 1d}, cold: {url: x}}\n",
      'holdfast.yaml:1:26 "cold" is not supported by this version yet; remove it',
    ],
    [
      "a TCP listener",
      "access: {http: {listen: 127.0.0.1:1}}\n",
      'holdfast.yaml:1:10 "http" is not supported by this version yet; remove it',
    ],
    [
      "a store of a later version",
      "store: s3://bucket/x\n",
      'holdfast.yaml:1:8 stores of the kind "s3" are not supported by this version yet; name a folder',
    ],
    [
      "a literal secret",
      "encryption: {key: hunter2}\n",
      "holdfast.yaml:1:19 a secret may not stand in the configuration; write {file: PATH}, {env: NAME}, {credential: NAME} or {command: [...]}",
    ],
    [
      "a secret in two places",
      "encryption: {key: {env: A, file: /b}}\n",
      "holdfast.yaml:1:19 exactly one key is needed; one of file, env, credential, command",
    ],
    [
      "a mode without quotes",
      "access: {socket: {mode: 0660}}\n",
      'holdfast.yaml:1:25 "660" is a number, but text is needed here; write it in quotes',
    ],
    [
      "a schedule that holdfast has itself",
      "schedule: {cron: [{name: cleanup, line: 0 3 * * *}]}\n",
      'holdfast.yaml:1:26 holdfast plans "cleanup" by itself; choose another name',
    ],
    [
      "a schedule by the name of another kind",
      "schedule: {daily: {}, cron: [{name: daily, line: 0 3 * * *}]}\n",
      'holdfast.yaml:1:37 two schedules are named "daily"; choose another name',
    ],
    [
      "a schedule that never comes",
      'schedule: {cron: [{name: x, line: "0 0 30-31/1 2 *"}]}\n',
      "holdfast.yaml:1:35 this never comes: no such day in these months; correct the day or the month",
    ],
    [
      "a frequency that never comes",
      'sources: [{path: /a, backup_frequency: "0 0 31 feb,4,6-7/3 *"}]\n',
      "holdfast.yaml:1:40 this never comes: no such day in these months; correct the day or the month",
    ],
    ["a check without rest", "verify: {blocks: {every: 0s}}\n", 'holdfast.yaml:1:26 "0s" is too often; at least 1m'],
    [
      "a duration beyond all dates",
      "defaults: {every: 9999999w}\n",
      'holdfast.yaml:1:19 "9999999w" is too long; at most 100 years',
    ],
    [
      "a threshold in percent without the sign",
      "alerts: {rules: [{when: storage_full, threshold: 90}]}\n",
      "holdfast.yaml:1:50 90 is no share of the space; write a share such as 90%",
    ],
    [
      "a second rule of a condition",
      "alerts: {rules: [{when: file_lost}, {when: file_lost}]}\n",
      "holdfast.yaml:1:44 there is a rule for file_lost already; join them into one",
    ],
    [
      "a retry without a wait",
      "alerts: {rules: [{when: backup_failed, auto_retry: {times: 2, backoff: 0s}}]}\n",
      "holdfast.yaml:1:72 there must be a wait between two tries; write 30s",
    ],
    [
      "a channel that does not exist",
      "alerts:\n  channels: {ops: {slack: {webhook: {env: A}}}}\n  rules: [{when: file_lost, actions: [opps]}]\n",
      'holdfast.yaml:3:39 there is no channel "opps"; did you mean "ops"?',
    ],
    [
      "a channel of two kinds",
      "alerts: {channels: {x: {}}}\n",
      "holdfast.yaml:1:24 exactly one key is needed; one of email, slack",
    ],
    [
      "a share for a count",
      "alerts: {rules: [{when: file_lost, threshold: 5%}]}\n",
      "holdfast.yaml:1:47 a share is only known for storage_full; write a count",
    ],
    [
      "a schedule of an unknown source",
      "sources: [{name: app, path: /a}]\nschedule: {daily: {sources: [ap]}}\n",
      'holdfast.yaml:2:30 there is no source "ap"; did you mean "app"?',
    ],
    [
      "a time that is none",
      "schedule: {daily: {time: '25:00'}}\n",
      'holdfast.yaml:1:26 "25:00" does not fit; Time of day',
    ],
    [
      "a cron line of four fields",
      "schedule: {cron: [{name: x, line: '* * * *'}]}\n",
      'holdfast.yaml:1:35 "* * * *" is no cron line; five fields: minute, hour, day of month, month, day of week',
    ],
    [
      "a cron line out of range",
      "sources: [{path: /a, backup_frequency: '61 * * * *'}]\n",
      'holdfast.yaml:1:40 "61 * * * *" is no frequency; write on_change, hourly, daily, weekly, monthly or a cron line of five fields',
    ],
    [
      "a time zone that is none",
      "schedule: {time_zone: Mars/Base}\n",
      'holdfast.yaml:1:23 "Mars/Base" is no time zone; write a name such as Europe/Berlin',
    ],
    [
      "encryption demanded and denied",
      "defaults: {encrypt: false}\nsources: [{path: /a, encryption_required: true}]\n",
      'holdfast.yaml:2:43 source "a" demands encryption; remove `encrypt: false` from defaults',
    ],
    [
      "a metrics port without token",
      'metrics: {listen: "127.0.0.1:9"}\n',
      "holdfast.yaml:1:19 a metrics port needs a token; add token: {file: PATH}",
    ],
    ["rotation that keeps nothing", "rotation: {min_copies: 0}\n", "holdfast.yaml:1:24 0 is too small; at least 1"],
    ["a key twice", "store: /a\nstore: /b\n", "holdfast.yaml:2:1 Map keys must be unique"],
    [
      "an open bracket",
      "sources: [/a\n",
      "holdfast.yaml:2:1 Flow sequence in block collection must be sufficiently indented and end with a ]",
    ],
    [
      "an included file that is not there",
      'include: ["conf.d/*.yaml", "conf.d/more.yaml"]\n',
      'holdfast.yaml:1:28 there is no file "conf.d/more.yaml"; a pattern such as `conf.d/*.yaml` may name none',
    ],
    ["a list as the whole file", "- /a\n", "holdfast.yaml:1:1 a list stands here, but a mapping is needed"],
  ] as const) {
    it(`is told once and with its place: ${name}`, async () => {
      expect(await faults(text)).to.deep.equal([fault]);
    });
  }

  it("is told with all others at once, in the order of the lines, and not without end", async () => {
    expect(await faults("log: {level: loud}\nsources: 1\nstore: 2\n")).to.have.length(3);
    const many = Array.from({ length: 100 }, (_, index) => `wrong${String(index)}: 1`).join("\n");
    const lines = await faults(many);
    expect(lines).to.have.length(21);
    expect(lines.at(-1)).to.equal("and 80 more");
  });

  it("never shows a secret", async () => {
    const texts = [
      "encryption: {key: hunter2}\n",
      "alerts: {channels: {a: {slack: {webhook: hunter2}}}}\n",
      'alerts: {channels: {a: {email: {smtp: "smtp://u:hunter2@h", from: a, to: [b]}}}}\n',
    ];
    for (const text of texts) expect((await faults(text)).join()).not.to.contain("hunter2");
  });

  it("is a file that is missing, too large or no text", async () => {
    const codeOf = async (file: string): Promise<boolean> =>
      await loadConfiguration({ configFile: file }).then(
        () => false,
        (thrown: unknown) => hasCode(thrown, "CONFIG_UNREADABLE"),
      );
    expect(await codeOf(join(folder().path, "none.yaml"))).to.be.true;
    expect(await codeOf(await folder().write("big.yaml", `#${"x".repeat(1_100_000)}`))).to.be.true;
    expect(await codeOf(await folder().write("bytes.yaml", Buffer.from([0xff, 0xfe, 0x00])))).to.be.true;
  });

  it("is an alias bomb, and does not eat the memory", async () => {
    const levels = Array.from(
      { length: 9 },
      (_, index) =>
        `a${String(index + 1)}: &a${String(index + 1)} [${Array(10)
          .fill(`*a${String(index)}`)
          .join(", ")}]`,
    );
    const bomb = ["a0: &a0 [x]", ...levels].join("\n");
    expect((await faults(bomb)).join()).to.match(/alias/i);
  });
});
