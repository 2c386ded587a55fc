/** Speaking to systemd: the messages, the watchdog's conscience, and sockets handed over by the real program. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { systemClock } from "../../src/base/clock.js";
import { type Logger, silentObserver } from "../../src/base/observe.js";
import { type Environment, SystemdNotifier, takeInheritedSockets } from "../../src/daemon/systemd.js";
import { keepStatus } from "../../src/daemon/service-status.js";
import { FakeClock } from "../support/fake-clock.js";
import { Sandbox } from "../support/program.js";
import { BUILT_ROOT } from "../support/project.js";
import { requirePrograms } from "../support/requirements.js";
import { useTempFolder } from "../support/temp-folder.js";

const PID = 4242;

class Recorder {
  readonly messages: string[] = [];
  readonly logged: string[] = [];
  readonly clock = new FakeClock();
  failure: Error | undefined;

  readonly log: Logger = {
    ...silentObserver.log,
    warn: (event) => this.logged.push(event),
    error: (event) => this.logged.push(event),
  };

  notifier(environment: Environment): SystemdNotifier {
    return new SystemdNotifier({
      clock: this.clock,
      log: this.log,
      environment,
      pid: PID,
      send: (socketPath, message) => {
        if (this.failure !== undefined) return Promise.reject(this.failure);
        this.messages.push(`${socketPath} ${message}`);
        return Promise.resolve();
      },
    });
  }
}

describe("telling systemd", () => {
  it("says nothing when nobody listens", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier({});
    notifier.ready("serving");
    notifier.startWatchdog(() => true);
    await recorder.clock.advance(60_000);
    await notifier[Symbol.asyncDispose]();
    expect(notifier.isListenedTo).to.equal(false);
    expect(recorder.messages).to.deep.equal([]);
  });

  it("sends ready, status and stopping in order, a status always on one line", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier({ NOTIFY_SOCKET: "/run/n" });
    notifier.ready("watching 3 sources");
    notifier.status("backing up\nWATCHDOG=1");
    notifier.stopping("waiting for the last commit");
    await notifier[Symbol.asyncDispose]();
    expect(recorder.messages).to.deep.equal([
      "/run/n READY=1\nSTATUS=watching 3 sources",
      "/run/n STATUS=backing up WATCHDOG=1",
      "/run/n STOPPING=1\nSTATUS=waiting for the last commit",
    ]);
  });

  it("leaves the status as it was when a reload has ended", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier({ NOTIFY_SOCKET: "/run/n" });
    notifier.ready();
    await notifier[Symbol.asyncDispose]();
    expect(recorder.messages).to.deep.equal(["/run/n READY=1"]);
  });

  it("announces a reload with the kernel's monotonic time, as systemd compares it", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier({ NOTIFY_SOCKET: "/run/n" });
    const beforeUsec = process.hrtime.bigint() / 1000n;
    notifier.reloading();
    await notifier[Symbol.asyncDispose]();
    const sentUsec = BigInt(/^MONOTONIC_USEC=(\d+)$/m.exec(recorder.messages[0] ?? "")?.[1] ?? 0);
    expect(recorder.messages[0]).to.contain("RELOADING=1\n");
    expect(Number(sentUsec - beforeUsec)).to.be.within(0, 10_000_000);
  });

  it("takes its variables out of the environment, so that no child speaks in its name", () => {
    const environment: Environment = { NOTIFY_SOCKET: "@n", WATCHDOG_USEC: "1", WATCHDOG_PID: "1", HOME: "/" };
    new Recorder().notifier(environment);
    expect(environment).to.deep.equal({ HOME: "/" });
  });

  it("goes on when a message cannot be sent, and logs it", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier({ NOTIFY_SOCKET: "/run/n" });
    recorder.failure = new Error("ECONNREFUSED");
    notifier.status("one");
    await notifier[Symbol.asyncDispose]();
    recorder.failure = undefined;
    notifier.status("two");
    await notifier[Symbol.asyncDispose]();
    expect(recorder.logged).to.deep.equal(["systemd.notify_failed"]);
    expect(recorder.messages).to.deep.equal(["/run/n STATUS=two"]);
  });

  it("drops messages rather than let them pile up behind one that hangs", async () => {
    const sent: string[] = [];
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const notifier = new SystemdNotifier({
      clock: new FakeClock(),
      log: silentObserver.log,
      environment: { NOTIFY_SOCKET: "/run/n" },
      pid: PID,
      send: async (_socketPath, message) => {
        await gate;
        sent.push(message);
      },
    });
    for (let count = 0; count < 1000; count += 1) notifier.status(String(count));
    release();
    await notifier[Symbol.asyncDispose]();
    expect(sent).to.have.lengthOf(16);
  });
});

describe("the watchdog", () => {
  const environment = (): Environment => ({ NOTIFY_SOCKET: "/run/n", WATCHDOG_USEC: "60000000", WATCHDOG_PID: "4242" });

  it("beats twice in each period", async () => {
    const recorder = new Recorder();
    await using notifier = recorder.notifier(environment());
    notifier.startWatchdog(() => true);
    await recorder.clock.advance(60_000);
    await notifier[Symbol.asyncDispose]();
    expect(recorder.messages).to.deep.equal(["/run/n WATCHDOG=1", "/run/n WATCHDOG=1"]);
  });

  it("withholds the beat while queued work stands still, says so once, and beats again when it moves", async () => {
    const recorder = new Recorder();
    let advancing = false;
    await using notifier = recorder.notifier(environment());
    notifier.startWatchdog(() => advancing);
    await recorder.clock.advance(90_000);
    expect(recorder.logged).to.deep.equal(["watchdog.withheld"]);
    advancing = true;
    await recorder.clock.advance(30_000);
    await notifier[Symbol.asyncDispose]();
    expect(recorder.messages).to.deep.equal(["/run/n WATCHDOG=1"]);
  });

  it("rests when the daemon stops, and when the variable was meant for another process", async () => {
    const recorder = new Recorder();
    await using stopped = recorder.notifier(environment());
    stopped.startWatchdog(() => true);
    stopped.stopping("bye");
    await using foreign = recorder.notifier({ ...environment(), WATCHDOG_PID: "1" });
    foreign.startWatchdog(() => true);
    await recorder.clock.advance(120_000);
    await stopped[Symbol.asyncDispose]();
    await foreign[Symbol.asyncDispose]();
    expect(recorder.messages).to.deep.equal(["/run/n STOPPING=1\nSTATUS=bye"]);
  });
});

describe("sockets that systemd opened", () => {
  it("are numbered from 3 and named as the unit names them", () => {
    const environment: Environment = { LISTEN_PID: "4242", LISTEN_FDS: "2", LISTEN_FDNAMES: "api:", PATH: "/bin" };
    expect(takeInheritedSockets(environment, PID)).to.deep.equal([
      { fd: 3, name: "api" },
      { fd: 4, name: "unknown" },
    ]);
    expect(environment).to.deep.equal({ PATH: "/bin" });
  });

  it("are left alone when they are for another process or are no number", () => {
    expect(takeInheritedSockets({ LISTEN_PID: "1", LISTEN_FDS: "1" }, PID)).to.deep.equal([]);
    expect(takeInheritedSockets({ LISTEN_PID: "4242", LISTEN_FDS: "many" }, PID)).to.deep.equal([]);
    expect(takeInheritedSockets({}, PID)).to.deep.equal([]);
  });

  const folder = useTempFolder("socket");

  it("are served when systemd's own program hands one over", async function () {
    requirePrograms(this, "systemd-socket-activate");
    const program = `
      import { createServer } from "node:http";
      import { takeInheritedSockets } from ${JSON.stringify(`file://${BUILT_ROOT}/src/daemon/systemd.js`)};
      const [socket] = takeInheritedSockets(process.env, process.pid);
      createServer((_, answer) => answer.end(JSON.stringify(socket))).listen({ fd: socket.fd });
    `;
    const script = await folder().write("serve.mjs", program);
    const socketPath = folder().at("api.sock");
    const command = ["-l", socketPath, "--fdname=api", process.execPath, script];
    const activator = spawn("systemd-socket-activate", command, { stdio: ["ignore", "ignore", "pipe"] });
    try {
      await once(createInterface(activator.stderr), "line"); // "Listening on ... as 3."
      const answer = await firstAnswer(socketPath);
      expect(answer).to.match(/^HTTP\/1\.1 200 OK/);
      expect(answer).to.contain('{"fd":3,"name":"api"}');
    } finally {
      activator.kill("SIGKILL");
      await once(activator, "close");
    }
  });
});

describe("the daemon behind a socket unit", () => {
  it("starts, though it is its own socket that takes connections, and lets in whom the unit let in", async function () {
    requirePrograms(this, "systemd-socket-activate");
    await using sandbox = await Sandbox.create();
    const { environment, socket } = sandbox;
    const given = Object.entries(environment).flatMap(([name, value]) => ["-E", `${name}=${value}`]);
    const program = [process.execPath, `${BUILT_ROOT}/src/cli/main.js`, "daemon"];
    const activator = spawn("systemd-socket-activate", ["-l", socket, ...given, ...program], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    try {
      await once(createInterface(activator.stderr), "line");
      const health = await sandbox.run("health", "--json");
      expect(health.exitCode, health.stderr).to.equal(0);
    } finally {
      activator.kill("SIGTERM");
      await once(activator, "close");
    }
  });
});

describe("the line of systemctl status", () => {
  it("says what is protected and what is not as it should be, each line once", async () => {
    const [clock, told] = [new FakeClock(), [] as string[]];
    const sources: { state: "protected" | "root_gone" | "degraded"; files: number }[] = [
      { state: "protected", files: 1 },
    ];
    using _status = keepStatus({ clock, sources: () => sources, tell: (line) => told.push(line) });
    await clock.advance(60_000);
    sources.push({ state: "root_gone", files: 2 });
    await clock.advance(60_000);
    expect(told).to.deep.equal(["Protecting 1 file of 1 source", "Protecting 3 files of 2 sources, 1 away"]);
  });
});

describe("a real notification socket", () => {
  const folder = useTempFolder("notify");

  it("gets the messages as datagrams", async function () {
    requirePrograms(this, "python3");
    const socketPath = folder().at("notify.sock");
    const receiver = await folder().write(
      "receive.py",
      [
        "import socket, sys",
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1]); s.settimeout(20)",
        "print('bound', flush=True)",
        "for _ in range(2): print(repr(s.recv(4096).decode()), flush=True)",
      ].join("\n"),
    );
    const child = spawn("python3", [receiver, socketPath], { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    await lines.next();
    const { log } = silentObserver;
    const environment = { NOTIFY_SOCKET: socketPath };
    await using notifier = new SystemdNotifier({ clock: systemClock, log, environment, pid: process.pid });
    notifier.ready("serving");
    notifier.stopping("bye");
    expect((await lines.next()).value).to.equal(String.raw`'READY=1\nSTATUS=serving'`);
    expect((await lines.next()).value).to.equal(String.raw`'STOPPING=1\nSTATUS=bye'`);
    await once(child, "close");
  });
});

/** The first answer to a plain request over a Unix socket. */
async function firstAnswer(socketPath: string): Promise<string> {
  const socket = createConnection(socketPath);
  socket.write("GET / HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n");
  const parts: Buffer[] = [];
  for await (const part of socket) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}
