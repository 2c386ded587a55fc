/**
 * Secrets stay where they were given: every secret of the configuration holds a marker of its own, the built program is
 * used in many ways, and the markers are looked for in all that it printed, answered, sent and wrote, also encoded.
 */
import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { type IncomingMessage, type Server, type ServerResponse, createServer, request } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { SMTPServer } from "smtp-server";
import { DaemonProcess, Sandbox, runCommand, until } from "../support/program.js";

/** One marker for each secret; random, so that none can be meant by accident. */
function makeMarkers() {
  const marker = (name: string): string => `${name}${randomBytes(12).toString("hex")}`;
  return { repository: marker("Repo"), smtp: marker("Smtp"), webhook: marker("Hook"), metrics: marker("Gauge") };
}
type Markers = ReturnType<typeof makeMarkers>;

describe("secrets of the configuration", () => {
  it("are nowhere but where they were given, whatever is asked, fails or is told", async () => {
    const markers = makeMarkers();
    await using servers = await Servers.start(markers);
    await using sandbox = await Sandbox.create();
    const environment = await giveSecrets(sandbox, markers, servers);
    const heard = new Heard();
    const daemon = await startDaemon(sandbox, environment);
    await makeTrouble(sandbox);
    await useCommands(environment, heard, COMMANDS);
    await until("both channels were tried", 25_000, () => servers.mailLogins > 0 && servers.posts.length > 0);
    await useCommands(environment, heard, CHANNEL_COMMANDS);
    heard.add("metrics over TCP", await getMetrics(servers.metricsPort, markers.metrics));
    heard.add("metrics refused", await getMetrics(servers.metricsPort, `${markers.metrics}x`));
    for (const path of DOCUMENTS) heard.add(path, await getDocument(sandbox.socket, path));
    heard.add("posts", servers.posts.join("\n"));
    expect(await daemon.end("SIGTERM")).to.equal(0);
    heard.add("log", daemon.output);
    await useCommands(environment, heard, ALONE_COMMANDS);

    expect(heard.text("metrics over TCP")).to.contain("holdfast_build_info");
    expect(heard.text("metrics refused")).to.not.contain("holdfast_build_info");
    expect(heard.text("log")).to.contain("daemon.stopping");
    expect(heard.leaks(markers)).to.deep.equal([]);
    expect(await readFile(join(sandbox.home, "environment"), "utf8")).to.contain("PATH=");
    expect(await leaksOnDisk(sandbox, markers)).to.deep.equal([]);
  });

  it("are not repeated when they are written where only a reference may stand", async () => {
    const markers = makeMarkers();
    await using sandbox = await Sandbox.create();
    const heard = new Heard();
    const email = { smtp: "smtp://localhost", from: "a@example.org", to: ["b@example.org"] };
    const mistakes: Readonly<Record<string, unknown>>[] = [
      { encryption: { key: markers.repository } },
      { encryption: { key: { value: markers.repository } } },
      { alerts: { channels: { mail: { email: { ...email, user: "u", password: markers.smtp } } } } },
      { alerts: { channels: { mail: { email: { ...email, smtp: `smtp://u:${markers.smtp}@localhost` } } } } },
      { alerts: { channels: { ops: { slack: { webhook: `https://hooks.slack.com/services/${markers.webhook}` } } } } },
      { alerts: { channels: { ops: { slack: `https://hooks.slack.com/services/${markers.webhook}` } } } },
      { metrics: { listen: "127.0.0.1:9", token: markers.metrics } },
      { metrics: { listen: "127.0.0.1:9", token: [markers.metrics] } },
    ];
    for (const [index, mistake] of mistakes.entries()) {
      await sandbox.configure(mistake);
      for (const command of [["config", "check", "--json"], ["daemon"]]) {
        const result = await sandbox.run(...command);
        expect(result.exitCode, `${command.join(" ")}, mistake ${String(index)}`).to.not.equal(0);
        heard.add(`${command.join(" ")}, mistake ${String(index)}`, result.stdout + result.stderr);
      }
    }
    expect(heard.leaks(markers)).to.deep.equal([]);
  });

  it("are not repeated when the program that should print one fails, or a wrong one is given", async () => {
    const markers = makeMarkers();
    await using sandbox = await Sandbox.create();
    const heard = new Heard();
    const program = join(sandbox.home, "print-key");
    await writeFile(program, `#!/bin/sh\necho ${markers.repository}\necho ${markers.repository} >&2\nexit 3\n`);
    await chmod(program, 0o700);
    await sandbox.configure({ encryption: { key: { command: [program] } } });
    const failed = await sandbox.run("daemon");
    heard.add("failing program", failed.stdout + failed.stderr);
    await sandbox.configure({});
    expect((await sandbox.run("init")).exitCode).to.equal(0);
    await sandbox.configure({ encryption: { key: { env: "HF_KEY" } } });
    for (const options of [[], ["--json"], ["--verbose"]]) {
      const environment = { ...sandbox.environment, HF_KEY: markers.repository };
      const wrong = await runCommand(["check", ...options], environment);
      heard.add(`wrong password ${options.join(" ")}`, wrong.stdout + wrong.stderr);
      expect(wrong.exitCode).to.equal(12);
    }
    expect(failed.exitCode).to.equal(78);
    expect(failed.stderr).to.contain("SECRET_UNREADABLE");
    expect(heard.leaks(markers)).to.deep.equal([]);
  });
});

const COMMANDS: readonly (readonly string[])[] = [
  ["config", "show"],
  ["config", "show", "--json"],
  ["config", "check", "--json"],
  ["config", "schema"],
  ["doctor"],
  ["doctor", "--json"],
  ["status"],
  ["status", "--json", "--verbose"],
  ["health", "--json"],
  ["create", "--type", "full", "--json"],
  ["list", "--json"],
  ["show", "latest", "--json"],
  ["check", "--read-data", "--json"],
  ["verify", "--json"],
  ["incidents", "--json"],
  ["alerts", "--json"],
  ["keys", "list", "--json"],
  ["scan", "--json"],
  ["show", "backup_that_is_not_there", "--json"],
  ["restore", "--backup-id", "nothing", "--target", "/proc/none"],
  ["keys", "add", "--no-such-option"],
  ["init"],
  ["init", "--json"],
];

/** What the command line does by itself when no daemon runs. */
const ALONE_COMMANDS: readonly (readonly string[])[] = [
  ["status", "--json", "--verbose"],
  ["doctor", "--json"],
  ["keys", "list", "--json"],
  ["alerts", "list", "--json"],
];

const CHANNEL_COMMANDS: readonly (readonly string[])[] = [
  ["alerts", "test", "mail"],
  ["alerts", "test", "ops", "--json"],
  ["alerts", "list", "--json", "--verbose"],
  ["status"],
  ["config", "reload"],
];

const DOCUMENTS = [
  "/metrics",
  "/healthz",
  "/readyz",
  "/openapi.json",
  "/api/v1/backup/stats",
  "/api/v1/backup/health",
  "/api/v1/backup/sources",
  "/api/v1/backup/backups",
  "/api/v1/backup/alerts",
  "/api/v1/backup/incidents",
  "/api/v1/backup/jobs",
  "/api/v1/backup/schedules",
  "/api/v1/backup/config",
  "/api/v1/backup/nothing-here",
] as const;

/** Writes each secret into a place of its own kind (variable, program, file, credential); gives the environment. */
async function giveSecrets(sandbox: Sandbox, markers: Markers, servers: Servers): Promise<Record<string, string>> {
  const given = join(sandbox.home, "given");
  await mkdir(given, { mode: 0o700 });
  await writeFile(join(given, "slack.url"), servers.webhookUrl(markers.webhook), { mode: 0o600 });
  await writeFile(join(given, "metrics.token"), markers.metrics, { mode: 0o600 });
  await writeFile(join(given, "smtp-password"), `#!/bin/sh\necho ${markers.smtp}\n`, { mode: 0o700 });
  const nosy = join(sandbox.home, "nosy");
  await writeFile(nosy, `#!/bin/sh\nenv > '${join(sandbox.home, "environment")}'\nexit 1\n`, { mode: 0o700 });
  const { smtpUrl: smtp, metricsPort } = servers;
  const password = { command: [join(given, "smtp-password")] };
  const mail = { smtp, from: "h@example.org", to: ["o@example.org"], user: "holdfast", password };
  await sandbox.configure(
    {
      encryption: { key: { env: "HF_REPOSITORY" } },
      alerts: {
        channels: { mail: { email: mail }, ops: { slack: { webhook: { file: join(given, "slack.url") } } } },
      },
      metrics: { listen: `127.0.0.1:${String(metricsPort)}`, token: { credential: "metrics.token" } },
      log: { level: "debug" },
    },
    {
      recover: [{ match: "**", chain: [{ strategy: "regenerate", script: [nosy], timeout: "5s" }] }],
    },
  );
  return { ...sandbox.environment, HF_REPOSITORY: markers.repository, CREDENTIALS_DIRECTORY: given };
}

async function startDaemon(sandbox: Sandbox, environment: Record<string, string>): Promise<DaemonProcess> {
  await writeFile(join(sandbox.data, "lost.txt"), "nothing brings it back");
  const daemon = new DaemonProcess(["daemon", "--json"], environment);
  sandbox.adopt(daemon);
  await until("the daemon protects its source", 20_000, async () => {
    expect(daemon.exitCode, daemon.output).to.equal(undefined);
    const status = await runCommand(["status", "--json"], environment);
    if (status.exitCode !== 0) return false;
    const { daemon: isDaemon, sources } = status.json() as { daemon: boolean; sources: { state: string }[] };
    return isDaemon && sources.every(({ state }) => state === "protected");
  });
  return daemon;
}

/** A file is lost for good, so that both channels have something to tell. */
async function makeTrouble(sandbox: Sandbox): Promise<void> {
  await rm(join(sandbox.data, "lost.txt"));
}

async function useCommands(
  environment: Record<string, string>,
  heard: Heard,
  commands: readonly (readonly string[])[],
): Promise<void> {
  for (const command of commands) {
    const { stdout, stderr, exitCode } = await runCommand(command, environment);
    heard.add(`${command.join(" ")} (${String(exitCode)})`, stdout + stderr);
  }
}

/** Everything that the program said, by where it said it. */
class Heard {
  readonly #texts = new Map<string, string>();

  add(where: string, text: string): void {
    this.#texts.set(where, `${this.#texts.get(where) ?? ""}${text}`);
  }

  text(where: string): string {
    return this.#texts.get(where) ?? "";
  }

  leaks(markers: Markers): string[] {
    return [...this.#texts].flatMap(([where, text]) => leaksIn(where, Buffer.from(text), markers));
  }
}

function leaksIn(where: string, bytes: Buffer, markers: Markers): string[] {
  return Object.entries(markers)
    .filter(([, marker]) => formsOf(marker).some((form) => bytes.includes(form)))
    .map(([name]) => `${name} in ${where}: ${excerpt(bytes, markers)}`);
}

/** As it is, in hex, and in base64 at each of the three offsets. */
function formsOf(marker: string): string[] {
  const shifted = [0, 1, 2].map((offset) => {
    const text = Buffer.from(`${"x".repeat(offset)}${marker}`).toString("base64");
    return text.slice(offset === 0 ? 0 : 4, -4);
  });
  return [marker, Buffer.from(marker).toString("hex"), ...shifted];
}

function excerpt(bytes: Buffer, markers: Markers): string {
  const at = Math.max(
    ...Object.values(markers).flatMap((marker) => formsOf(marker).map((form) => bytes.indexOf(form))),
  );
  return bytes.subarray(Math.max(0, at - 80), at + 40).toString("latin1");
}

/** Looks into every file of the sandbox (state, LevelDB, store, data) but those that hold what was given. */
async function leaksOnDisk(sandbox: Sandbox, markers: Markers): Promise<string[]> {
  const leaks: string[] = [];
  let fileCount = 0;
  for (const entry of await readdir(sandbox.home, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (!entry.isFile() || path.startsWith(join(sandbox.home, "given"))) continue;
    fileCount += 1;
    leaks.push(...leaksIn(path, await readFile(path), markers));
  }
  expect(fileCount, "files were looked into").to.be.above(10);
  return leaks;
}

/** A mail server that refuses every password and repeats it, and a Slack behind a proxy that repeats the path. */
class Servers implements AsyncDisposable {
  mailLogins = 0;
  readonly posts: string[] = [];
  readonly #mail: SMTPServer;
  readonly #slack: Server;
  readonly metricsPort: number;

  private constructor(metricsPort: number) {
    this.metricsPort = metricsPort;
    this.#mail = new SMTPServer({
      authOptional: true,
      allowInsecureAuth: true,
      disabledCommands: ["STARTTLS"],
      onAuth: (auth, _session, done) => {
        this.mailLogins += 1;
        done(new Error(`user ${auth.username ?? ""} may not enter with ${auth.password ?? ""}`));
      },
    });
    this.#slack = createServer((asked: IncomingMessage, response: ServerResponse) => {
      let text = "";
      asked.on("data", (part: Buffer) => (text += part.toString("utf8")));
      asked.on("end", () => {
        this.posts.push(text);
        response.writeHead(404).end(`Cannot POST ${asked.url ?? ""}`);
      });
    });
  }

  static async start(markers: Markers): Promise<Servers> {
    expect(new Set(Object.values(markers)).size).to.equal(4);
    const servers = new Servers(await freePort());
    await new Promise<void>((resolve) => servers.#mail.listen(0, "127.0.0.1", resolve));
    await new Promise<void>((resolve) => servers.#slack.listen(0, "127.0.0.1", resolve));
    return servers;
  }

  get smtpUrl(): string {
    return `smtp://127.0.0.1:${String(portOf(this.#mail.server))}`;
  }

  webhookUrl(marker: string): string {
    return `http://127.0.0.1:${String(portOf(this.#slack))}/services/T0/B0/${marker}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#slack.closeAllConnections();
    await new Promise<void>((resolve) => this.#slack.close(() => resolve()));
    await new Promise<void>((resolve) => this.#mail.close(resolve));
  }
}

function portOf(server: { address(): unknown }): number {
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const port = portOf(server);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

async function getMetrics(port: number, token: string): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${String(port)}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return `${String(answer.status)} ${await answer.text()}`;
}

async function getDocument(socketPath: string, path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    request({ path, createConnection: () => connect(socketPath), headers: { host: "localhost" } }, (response) => {
      let text = JSON.stringify(response.headers);
      response.on("data", (part: Buffer) => (text += part.toString("utf8")));
      response.on("end", () => resolve(text));
    })
      .on("error", reject)
      .end();
  });
}
