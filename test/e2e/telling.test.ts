/** What the running daemon tells: mail, Slack, metrics, the control socket; and how it runs under a service manager. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { type IncomingMessage, createServer } from "node:http";
import { chmod, readFile, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import PostalMime from "postal-mime";
import { SMTPServer } from "smtp-server";
import { DaemonProcess, Sandbox, until } from "../support/program.js";
import { hasProgram, requirePrograms } from "../support/requirements.js";

describe("status without a daemon", () => {
  it("says that nothing is watched, and what the last backup holds", async () => {
    await using sandbox = await Sandbox.create();
    for (const name of ["one", "two"]) await writeFile(join(sandbox.data, name), "four");
    for (const command of ["init", "backup"]) expect((await sandbox.run(command)).exitCode, command).to.equal(0);
    const { sources } = await sandbox.json<{ sources: Record<string, unknown>[] }>("status");
    expect(sources[0]).to.include({ state: "unwatched", files: 2, bytes: 8 });
    const { stdout } = await sandbox.run("status");
    expect(stdout)
      .to.contain("NOT WATCHING")
      .and.to.match(/unwatched {2}2 files, 8 B/);
    expect(stdout).not.to.contain("next run");
  });
});

describe("a daemon with channels", () => {
  it("tells by mail and Slack of a file that nothing brought back, and keeps both secrets out of its log", async () => {
    await using mail = await MailServer.start();
    await using slack = await SlackServer.start();
    await using sandbox = await Sandbox.create();
    const webhook = join(sandbox.home, "slack.url");
    await writeFile(webhook, `${slack.url}/services/T0/B0/very-secret-token`, { mode: 0o600 });
    await sandbox.configure(
      {
        alerts: {
          channels: {
            mail: { email: { smtp: mail.url, from: "holdfast@example.org", to: ["ops@example.org"] } },
            ops: { slack: { webhook: { file: webhook } } },
          },
        },
      },
      { recover: [{ match: "**", chain: ["git_history"] }] },
    );
    const file = join(sandbox.data, "only copy <b>&.txt");
    await writeFile(file, "nowhere else");
    const daemon = await sandbox.start();
    await rm(file);
    await until("mail and Slack were told", 25_000, () => mail.raw.length > 0 && slack.bodies.length > 0);
    const message = await PostalMime.parse(mail.raw[0] ?? "");
    expect(message.subject).to.contain("data");
    expect(message.text).to.contain("only copy").and.to.contain("holdfast incidents show");
    const payload = JSON.parse(slack.bodies[0] ?? "{}") as { text?: string; blocks?: unknown[] };
    expect(payload.text).to.be.a("string");
    expect(JSON.stringify(payload)).to.not.contain("<b>");
    expect(daemon.output).to.not.contain("very-secret-token");
    expect(await daemon.end("SIGTERM")).to.equal(0);
  });

  it("tries a channel at a person's word, and says what is wrong with one that does not answer", async () => {
    await using mail = await MailServer.start();
    await using sandbox = await Sandbox.create();
    const channel = (smtp: string): unknown => ({ email: { smtp, from: "a@example.org", to: ["b@example.org"] } });
    await sandbox.configure({ alerts: { channels: { good: channel(mail.url), bad: channel("smtp://127.0.0.1:9") } } });
    await sandbox.start();
    const good = await sandbox.run("alerts", "test", "good");
    expect(good.exitCode, good.stderr).to.equal(0);
    expect(mail.raw).to.have.length(1);
    const bad = await sandbox.run("alerts", "test", "bad");
    expect(bad.exitCode).to.equal(1);
    expect(bad.stderr).to.contain("CHANNEL_FAILED").and.to.contain("Fix:");
    expect((await sandbox.run("alerts", "test", "nobody")).stderr).to.contain("CHANNEL_NOT_FOUND");
  });
});

describe("a running daemon", () => {
  it("serves metrics, health and status to curl on its socket", async function () {
    requirePrograms(this, "curl");
    await using sandbox = await Sandbox.create();
    await writeFile(join(sandbox.data, "a"), "a");
    await sandbox.start();
    const curl = (path: string): string =>
      execFileSync("curl", [
        "--silent",
        "--fail",
        "--unix-socket",
        sandbox.socket,
        `http://localhost${path}`,
      ]).toString();
    const metrics = curl("/metrics");
    expect(metrics).to.contain('holdfast_source_files{source="data"} 1');
    expect(metrics).to.match(/holdfast_backup_last_success_timestamp_seconds\{source="data"\} \d{10}/);
    expect(metrics).to.contain('holdfast_watch_degraded{source="data"} 0');
    expect(curl("/api/v1/backup/backups")).to.contain("backup_id");
    expect(curl("/healthz")).to.be.a("string");
    if (hasProgram("promtool")) execFileSync("promtool", ["check", "metrics"], { input: metrics });
  });

  it("tells its service manager that it is ready and that it stops", async function () {
    requirePrograms(this, "python3");
    await using sandbox = await Sandbox.create();
    const path = join(sandbox.home, "notify.sock");
    const listener = spawn("python3", ["-uc", NOTIFY_LISTENER, path], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(listener.stdout, "data");
      let heard = "";
      listener.stdout.on("data", (part: Buffer) => (heard += part.toString()));
      await chmod(path, 0o666);
      const environment = { ...sandbox.environment, NOTIFY_SOCKET: path, WATCHDOG_USEC: "400000" };
      const daemon = new DaemonProcess(["daemon"], environment);
      try {
        await until(
          "READY and WATCHDOG were sent",
          15_000,
          () => heard.includes("READY=1") && heard.includes("WATCHDOG=1"),
        );
        daemon.child.kill("SIGHUP");
        await until("RELOADING was sent", 10_000, () => heard.includes("RELOADING=1"));
        expect(await daemon.end("SIGTERM")).to.equal(0);
        await until("STOPPING was sent", 5_000, () => heard.includes("STOPPING=1"));
      } finally {
        await daemon.end("SIGKILL");
      }
    } finally {
      listener.kill();
    }
  });

  it("protects more at run time and remembers it", async () => {
    await using sandbox = await Sandbox.create();
    const more = join(sandbox.home, "more");
    execFileSync("mkdir", [more]);
    await writeFile(join(more, "x"), "x");
    const first = await sandbox.start();
    const added = await sandbox.run("protect", more, "--name", "extra");
    expect(added.exitCode, added.stderr).to.equal(0);
    await sandbox.settled(join(more, "x"));
    expect(await first.end("SIGTERM")).to.equal(0);
    await sandbox.start();
    await rm(join(more, "x"));
    await until("it is back", 5_000, async () => (await readFile(join(more, "x"), "utf8").catch(() => "")) === "x");
    expect((await sandbox.run("unprotect", "extra")).exitCode).to.equal(0);
    expect((await sandbox.run("status")).stdout).to.not.contain("extra");
  });
});

/** Prints each datagram that arrives on a Unix socket; Node has none. */
const NOTIFY_LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening")
while True:
    print(s.recv(4096).decode())
`;

class MailServer implements AsyncDisposable {
  readonly raw: string[] = [];
  readonly #server: SMTPServer;

  private constructor() {
    this.#server = new SMTPServer({
      disabledCommands: ["AUTH", "STARTTLS"],
      onData: (stream, _session, done) => {
        let text = "";
        stream.on("data", (part: Buffer) => (text += part.toString("utf8")));
        stream.on("end", () => {
          this.raw.push(text);
          done();
        });
      },
    });
  }

  static async start(): Promise<MailServer> {
    const mail = new MailServer();
    await new Promise<void>((resolve) => mail.#server.listen(0, "127.0.0.1", resolve));
    return mail;
  }

  get url(): string {
    return `smtp://127.0.0.1:${String((this.#server.server.address() as AddressInfo).port)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(resolve));
  }
}

class SlackServer implements AsyncDisposable {
  readonly bodies: string[] = [];
  readonly #server = createServer((request: IncomingMessage, response) => {
    let text = "";
    request.on("data", (part: Buffer) => (text += part.toString("utf8")));
    request.on("end", () => {
      this.bodies.push(text);
      response.end("ok");
    });
  });

  static async start(): Promise<SlackServer> {
    const slack = new SlackServer();
    await new Promise<void>((resolve) => slack.#server.listen(0, "127.0.0.1", resolve));
    return slack;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
