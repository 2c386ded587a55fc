/** The daemon of a soak: started, killed in the midst of its work and started again, and asked over its socket. */
import { appendFileSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ApiClient } from "../../../src/api/client.js";
import type { IncidentDocument, StatusDocument, VersionDocument } from "../../../src/api/services.js";
import type { ExplainDocument } from "../../../src/api/watch-service.js";
import { socketTransport } from "../../../src/api/socket-transport.js";
import { DaemonProcess, type Sandbox } from "../program.js";

const READY_LIMIT_MS = 60_000;
const ASK_LIMIT_MS = 10_000;

export class SoakedDaemon {
  readonly #sandbox: Sandbox;
  readonly #logPath: string;
  readonly #client: ApiClient;
  #process: DaemonProcess | undefined;
  /** Ends by itself that nobody asked for. */
  readonly crashes: string[] = [];

  constructor(sandbox: Sandbox, logPath: string) {
    this.#sandbox = sandbox;
    this.#logPath = logPath;
    this.#client = new ApiClient(socketTransport(sandbox.socket));
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  /** Starts it; it may not answer for a while. */
  begin(): void {
    const started = new DaemonProcess(["daemon", "--json"], this.#sandbox.environment);
    this.#process = started;
    this.#sandbox.adopt(started);
    const keep = (part: Buffer): void => appendFileSync(this.#logPath, part);
    started.child.stdout?.on("data", keep);
    started.child.stderr?.on("data", keep);
    started.child.on("exit", (code, signal) => {
      if (this.#process !== started) return;
      this.#process = undefined;
      this.crashes.push(`ended by itself with ${String(code ?? signal)}:\n${started.output.slice(-2000)}`);
    });
  }

  /** Ends it with a signal and waits until it is gone. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    await running?.end(signal);
  }

  /** Kills the process that watches for it. False when there is none. */
  killWatcher(): boolean {
    const watcher = this.watcherPid;
    if (watcher === undefined) return false;
    process.kill(watcher, "SIGKILL");
    return true;
  }

  /** Of the process that watches for it; undefined when there is none. */
  get watcherPid(): number | undefined {
    const pid = this.#process?.child.pid;
    if (pid === undefined) return undefined;
    const children = readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, "utf8")
      .trim()
      .split(" ");
    const [watcher] = children.filter((text) => text !== "" && isWatcher(text));
    return watcher === undefined ? undefined : Number(watcher);
  }

  /** Waits until it protects everything and nothing is pending; gives what does not come to rest in time. */
  async settle(limitMs = READY_LIMIT_MS): Promise<string | undefined> {
    const startMs = performance.now();
    for (;;) {
      const status = await this.status();
      if (status?.sources.every(({ state, pending_changes: pending }) => state === "protected" && pending === 0))
        return undefined;
      if (performance.now() - startMs > limitMs) return JSON.stringify(status?.sources ?? "no answer");
      await delay(100);
    }
  }

  /** What it tells Prometheus; empty while it does not answer. */
  async metrics(): Promise<string> {
    return (await this.#ask(async (signal) => await this.#client.text("/metrics", signal))) ?? "";
  }

  /** Undefined while it does not answer. */
  async status(): Promise<StatusDocument | undefined> {
    return await this.#ask(async (signal) => await this.#client.get<StatusDocument>("/status", signal));
  }

  /** Digest of the newest version of a path; undefined when there is none, or nobody answers. */
  async newestDigest(path: string): Promise<string | undefined> {
    return (await this.#versions(path))?.[0]?.sha256 ?? undefined;
  }

  /** The repository knows that the path is gone. */
  async isRemoved(path: string): Promise<boolean> {
    const versions = await this.#versions(path);
    return versions !== undefined && versions[0]?.change !== "stored";
  }

  async incidents(): Promise<readonly IncidentDocument[]> {
    const answer = await this.#ask(
      async (signal) => await this.#client.get<{ items: readonly IncidentDocument[] }>("/incidents?limit=500", signal),
    );
    return answer?.items ?? [];
  }

  /** Why a path is treated as it is, and what became of it last; empty when nobody answers. */
  async explain(path: string): Promise<string> {
    const query = new URLSearchParams({ path }).toString();
    const answer = await this.#ask(
      async (signal) => await this.#client.get<ExplainDocument>(`/explain?${query}`, signal),
    );
    return answer?.why ?? "";
  }

  /** Pauses a folder; false when nobody answers. */
  async pause(path: string, seconds: number): Promise<boolean> {
    const body = { path, duration_seconds: seconds, reason: "soak" };
    return (await this.#ask(async (signal) => await this.#client.post<unknown>("/pause", body, signal))) !== undefined;
  }

  async resume(path: string): Promise<boolean> {
    const answer = await this.#ask(async (signal) => await this.#client.post<unknown>("/resume", { path }, signal));
    return answer !== undefined;
  }

  /** Newest first; undefined when nobody answers. */
  async #versions(path: string): Promise<readonly VersionDocument[] | undefined> {
    const query = new URLSearchParams({ path }).toString();
    const answer = await this.#ask(
      async (signal) => await this.#client.get<{ items: readonly VersionDocument[] }>(`/versions?${query}`, signal),
    );
    return answer?.items;
  }

  async #ask<T>(question: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    if (this.#process === undefined) return undefined;
    try {
      return await question(AbortSignal.timeout(ASK_LIMIT_MS));
    } catch {
      return undefined; // it is not ready, or was killed: the caller has a limit of its own
    }
  }
}

function isWatcher(pid: string): boolean {
  try {
    return /watch/.test(readFileSync(`/proc/${pid}/cmdline`, "latin1"));
  } catch {
    return false;
  }
}
