/** What a command works with, made from its options: the way to the API, following jobs, cleaning up at the end. */
import { ApiClient } from "../api/client.js";
import type { JobDocument } from "../api/services.js";
import { socketTransport } from "../api/socket-transport.js";
import type { Clock } from "../base/clock.js";
import { hasCode } from "../base/errors.js";
import { ResourceStack } from "../base/lifecycle.js";
import { resolveControl } from "../config/control.js";
import { type CommandContext, type GlobalOptions, type Options, textOption } from "./command.js";
import { launchOptions } from "./foreground.js";
import type { Output, Sink } from "./output.js";
import { Progress } from "./progress.js";

/** What surrounds a run of the command line; tests give their own. */
export interface CliSurroundings {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Whether somebody sits at a terminal. */
  readonly isTerminal: boolean;
  readonly version: string;
}

/** A cancelled job may take this long to answer. */
const CANCEL_TIMEOUT_MS = 2_000;

export class CliContext implements CommandContext, AsyncDisposable {
  readonly output: Output;
  readonly globals: GlobalOptions;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly mayAsk: boolean;
  readonly version: string;
  readonly #stack = new ResourceStack();
  #api: ApiClient | undefined;

  constructor(output: Output, options: Options, around: CliSurroundings) {
    this.output = output;
    this.globals = globalsOf(options);
    this.env = around.env;
    this.clock = around.clock;
    this.signal = around.signal;
    this.version = around.version;
    this.mayAsk = around.isTerminal && options["input"] !== false;
  }

  async api(need: "daemon" | "alone"): Promise<ApiClient> {
    this.#api ??= await this.#connect(need);
    return this.#api;
  }

  async #connect(need: "daemon" | "alone"): Promise<ApiClient> {
    const { config, stateDir, socket } = this.globals;
    const control = await resolveControl({
      ...(config === undefined ? {} : { configFile: config }),
      ...(stateDir === undefined ? {} : { stateDir }),
      ...(socket === undefined ? {} : { socket }),
      env: this.env,
    });
    const client = new ApiClient(socketTransport(control.socket));
    try {
      await client.get("/healthz", this.signal);
      this.output.detail(`a daemon answers on ${control.socket}`);
      return client;
    } catch (error) {
      if (need === "daemon" || !hasCode(error, "DAEMON_UNREACHABLE")) throw error;
    }
    this.output.detail(`no daemon answers on ${control.socket}; working alone`);
    const { openStandalone } = await import("../daemon/standalone.js");
    const standalone = this.#stack.use(await openStandalone({ ...launchOptions(this), signal: this.signal }));
    return new ApiClient(standalone.transport);
  }

  async follow<T>(api: ApiClient, job: JobDocument): Promise<T> {
    const progress = new Progress(this.output);
    try {
      const done = await api.waitForJob(job, this.signal, (state) => progress.show(state, this.clock.monotonicMs()));
      return done.result as T;
    } catch (error) {
      // Whoever presses Ctrl-C wants the work to stop, not only the waiting.
      if (this.signal.aborted) await this.#cancel(api, job);
      throw error;
    } finally {
      progress.end();
    }
  }

  async #cancel(api: ApiClient, job: JobDocument): Promise<void> {
    try {
      await api.delete(`/jobs/${encodeURIComponent(job.id)}`, AbortSignal.timeout(CANCEL_TIMEOUT_MS));
      this.output.say(`job ${job.id} was cancelled`);
    } catch {
      this.output.say(`job ${job.id} goes on; see it with: holdfast status`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }
}

function globalsOf(options: Options): GlobalOptions {
  const fields = {
    config: textOption(options, "config"),
    socket: textOption(options, "socket"),
    stateDir: textOption(options, "stateDir"),
    store: textOption(options, "store"),
    passwordFile: textOption(options, "passwordFile"),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
