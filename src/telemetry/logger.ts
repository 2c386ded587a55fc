/**
 * The log, on winston: one JSON object a line for journald and machines, or a short coloured line for a terminal.
 * Logging never throws, never blocks and never grows without bound: when nobody reads the stream, lines are dropped
 * and counted, and the count is the first thing said when it flows again.
 */
import { fstatSync } from "node:fs";
import { createLogger, format, type Logger as WinstonLogger, transports } from "winston";
import type { Clock } from "../base/clock.js";
import { isoTime } from "../base/clock.js";
import type { LogFields, Logger } from "../base/observe.js";
import { redactText, safeFields } from "./redact.js";

export const LOG_LEVELS = ["error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = "json" | "text";

/** Bytes that may wait for a reader of the stream; at some 300 bytes a line these are about 25,000 lines. */
export const LOG_BACKLOG_BYTES_MAX = 8 * 2 ** 20;
/** Longest line, characters. */
export const LOG_LINE_CHARACTERS_MAX = 16_384;
/** Longest wait for the stream to take what is left at the end, ms. */
const FLUSH_TIMEOUT_MS = 2000;

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** Puts the priority before each line as journald reads it, so that `journalctl -p warning` finds it. */
  readonly journal?: boolean;
  /** Usually `process.stdout` (JSON) or `process.stderr` (text). It is not closed. */
  readonly stream: NodeJS.WritableStream;
  /** ANSI colours in text lines. */
  readonly colour: boolean;
  readonly clock: Clock;
}

/** An open log. Disposing it waits until the stream has taken every line (2 s at most). */
export interface Log extends Logger, AsyncDisposable {
  /** Changes what is written from now on. */
  setLevel(level: LogLevel): void;
}

/** JSON for journald and when asked for; text otherwise. */
export function chooseLogFormat(environment: NodeJS.ProcessEnv, json: boolean): LogFormat {
  return json || environment["JOURNAL_STREAM"] !== undefined ? "json" : "text";
}

/** Whether journald itself reads a descriptor: `JOURNAL_STREAM` names the stream, and it may have been redirected since. */
export function isJournal(environment: NodeJS.ProcessEnv, fd: number): boolean {
  const { JOURNAL_STREAM: stream } = environment;
  if (stream === undefined) return false;
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return stream === `${dev.toString()}:${ino.toString()}`;
}

/** Priorities of syslog, as sd-daemon(3) has them before a line; journald takes them off again. */
const JOURNAL_PRIORITIES: Readonly<Record<LogLevel, string>> = { error: "<3>", warn: "<4>", info: "<6>", debug: "<7>" };

/** Opens a log on a stream. */
export function openLog(options: LogOptions): Log {
  return new WinstonLog(options);
}

interface Line {
  readonly level: LogLevel;
  readonly event: string;
  readonly time: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

class WinstonLog implements Log {
  readonly #options: LogOptions;
  readonly #winston: WinstonLogger;
  #dropped = 0;
  #isClosed = false;

  constructor(options: LogOptions) {
    this.#options = options;
    const plain = options.format === "json" ? jsonLine : (line: Line) => textLine(line, options.colour);
    const render = options.journal === true ? (line: Line) => JOURNAL_PRIORITIES[line.level] + plain(line) : plain;
    this.#winston = createLogger({
      level: options.level,
      levels: { error: 0, warn: 1, info: 2, debug: 3 },
      format: format.printf((info) => render(info["line"] as Line)),
      // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- winston's types miss the link
      transports: [new transports.Stream({ stream: options.stream, eol: "\n" })],
      exitOnError: false,
    });
    options.stream.on("error", ignoreStreamError);
  }

  debug(event: string, fields?: LogFields): void {
    this.#write("debug", event, fields);
  }

  info(event: string, fields?: LogFields): void {
    this.#write("info", event, fields);
  }

  warn(event: string, fields?: LogFields): void {
    this.#write("warn", event, fields);
  }

  error(event: string, fields?: LogFields): void {
    this.#write("error", event, fields);
  }

  setLevel(level: LogLevel): void {
    this.#winston.level = level;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const stop = new AbortController();
    const flushed = new Promise<void>((resolve) => {
      this.#winston.once("finish", () => this.#options.stream.write("", () => resolve()));
      this.#winston.end();
    });
    const limit = this.#options.clock.sleep(FLUSH_TIMEOUT_MS, stop.signal).catch(() => undefined);
    await Promise.race([flushed, limit]);
    stop.abort();
    this.#options.stream.removeListener("error", ignoreStreamError);
  }

  #write(level: LogLevel, event: string, fields: LogFields | undefined): void {
    if (this.#isClosed || !this.#winston.isLevelEnabled(level)) return;
    if (backlogBytes(this.#options.stream) > LOG_BACKLOG_BYTES_MAX) {
      this.#dropped += 1;
      return;
    }
    if (this.#dropped > 0) {
      const lines = this.#dropped;
      this.#dropped = 0;
      this.#log("warn", "log.dropped", { lines });
    }
    this.#log(level, event, fields ?? {});
  }

  #log(level: LogLevel, event: string, fields: LogFields): void {
    const line: Line = { level, event, time: isoTime(this.#options.clock.nowMs()), fields: safeFields(fields) };
    this.#winston.log({ level, message: event, line });
  }
}

/** A reader that went away (EPIPE) must not end the daemon. */
function ignoreStreamError(): void {
  return;
}

function backlogBytes(stream: NodeJS.WritableStream): number {
  const length = (stream as { writableLength?: number }).writableLength;
  return length ?? 0;
}

const RESERVED = new Set(["time", "level", "event"]);

function jsonLine(line: Line): string {
  const document: Record<string, unknown> = { time: line.time, level: line.level, event: line.event };
  for (const [name, value] of Object.entries(line.fields)) document[RESERVED.has(name) ? `${name}_` : name] = value;
  let text = JSON.stringify(document);
  if (text.length > LOG_LINE_CHARACTERS_MAX) {
    const { time, level, event } = line;
    text = JSON.stringify({ time, level, event, cut: true, text: text.slice(0, LOG_LINE_CHARACTERS_MAX / 2) });
  }
  // JSON leaves these as they are; as escapes they mean the same and cannot steer a terminal.
  return text.replace(/[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, unicodeEscape);
}

const LEVEL_COLOURS: Readonly<Record<LogLevel, string>> = { error: "31", warn: "33", info: "32", debug: "90" };

function textLine(line: Line, colour: boolean): string {
  const paint = (code: string, text: string): string => (colour ? `\u001b[${code}m${text}\u001b[0m` : text);
  const fields = Object.entries(line.fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${paint("90", `${visible(name)}=`)}${fieldText(value)}`);
  const head = [
    paint("90", line.time.slice(11, 23)),
    paint(LEVEL_COLOURS[line.level], line.level.padEnd(5)),
    visible(redactText(line.event)),
  ];
  const text = [...head, ...fields].join(" ");
  return text.length <= LOG_LINE_CHARACTERS_MAX
    ? text
    : `${text.slice(0, LOG_LINE_CHARACTERS_MAX)}${colour ? "\u001b[0m" : ""}…`;
}

function fieldText(value: unknown): string {
  const text = visible(typeof value === "string" ? value : JSON.stringify(value));
  return typeof value === "string" && /^[^\s"=]+$/.test(text) ? text : typeof value === "string" ? `"${text}"` : text;
}

/** Shows control characters instead of obeying them. */
function visible(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are exactly what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    return unicodeEscape(character);
  });
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
