/**
 * Everything the command line writes. Data goes to stdout, words to stderr; with `--json` stdout holds one document
 * or JSON lines and nothing else. Control characters of file names never reach a terminal.
 */
import { messageOf } from "../base/errors.js";

export interface Sink {
  write(data: string | Uint8Array): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface OutputOptions {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface Column {
  readonly title: string;
  readonly align?: "right";
}

export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly #stdout: Sink;
  readonly #stderr: Sink;
  readonly #colour: boolean;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.quiet = options.quiet;
    this.verbose = options.verbose;
    this.#stdout = options.stdout;
    this.#stderr = options.stderr;
    const noColour = options.env["NO_COLOR"] !== undefined && options.env["NO_COLOR"] !== "";
    this.#colour = options.stdout.isTTY === true && !noColour && options.env["TERM"] !== "dumb";
  }

  /** True when words go to a terminal, so that a line may be redrawn. */
  get isInteractive(): boolean {
    return this.#stderr.isTTY === true;
  }

  /** One JSON document. */
  document(value: unknown): void {
    this.#stdout.write(`${JSON.stringify(value, undefined, 2)}\n`);
  }

  /** One line of JSON lines. */
  jsonLine(value: unknown): void {
    this.#stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** A line of data for people. */
  print(line = ""): void {
    this.#stdout.write(`${line}\n`);
  }

  /** Raw bytes of a file on stdout; false: wait for `drain` before more. */
  writeBytes(bytes: Uint8Array): boolean {
    return this.#stdout.write(bytes) !== false;
  }

  /** A line of words on stderr; silent with `--quiet`. */
  say(line: string): void {
    if (!this.quiet) this.#stderr.write(`${line}\n`);
  }

  /** A line of words that `--quiet` does not silence: errors, and a key that is shown once. */
  insist(line: string): void {
    this.#stderr.write(`${line}\n`);
  }

  /** Words only with `--verbose`. */
  detail(line: string): void {
    if (this.verbose) this.#stderr.write(`${line}\n`);
  }

  /** Redraws the current line of a terminal; "" clears it. */
  redraw(line: string): void {
    const width = (this.#stderr.columns ?? 80) - 1;
    this.#stderr.write(`\r\u001b[K${line.slice(0, width)}`);
  }

  /** Columns as wide as their content; nothing but the titles when there are no rows. */
  table(columns: readonly Column[], rows: readonly (readonly string[])[]): void {
    const clean = rows.map((row) => row.map(printable));
    const widths = columns.map((column, index) =>
      clean.reduce((width, row) => Math.max(width, widthOf(row[index] ?? "")), column.title.length),
    );
    this.print(
      this.bold(
        rowText(
          columns,
          columns.map((column) => column.title),
          widths,
        ),
      ),
    );
    for (const row of clean) this.print(rowText(columns, row, widths));
  }

  bold(text: string): string {
    return this.#paint(text, "1");
  }

  good(text: string): string {
    return this.#paint(text, "32");
  }

  bad(text: string): string {
    return this.#paint(text, "31");
  }

  careful(text: string): string {
    return this.#paint(text, "33");
  }

  #paint(text: string, code: string): string {
    return this.#colour ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}

function rowText(columns: readonly Column[], cells: readonly string[], widths: readonly number[]): string {
  return columns
    .map((column, index) => {
      const cell = cells[index] ?? "";
      const gap = " ".repeat(Math.max(0, (widths[index] ?? 0) - widthOf(cell)));
      return column.align === "right" ? gap + cell : cell + gap;
    })
    .join("  ")
    .trimEnd();
}

/** Characters as a terminal counts them, near enough for tables. */
function widthOf(text: string): number {
  return Array.from(text).length;
}

/** Text of a file name or message without control and direction characters; they show as `\x1b` or `\u202e`. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** The output of this process. A reader that has gone away (`holdfast list | head`) is no error. */
export function processOutput(options: Omit<OutputOptions, "stdout" | "stderr" | "env">): Output {
  return new Output({ ...options, stdout: process.stdout, stderr: process.stderr, env: process.env });
}

/**
 * Tells, at most once, that stdout takes nothing more: `unread`: its reader has gone, who has what they wanted;
 * `unwritten`: the disk is full, or alike, and what was to be written is not there. Words that cannot be written are lost.
 */
export function watchOutput(onEnd: (end: "unread" | "unwritten") => void): void {
  let isTold = false;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (isTold) return;
    isTold = true;
    if (error.code !== "EPIPE") console.error(`holdfast: cannot write: ${messageOf(error)} (TARGET_IO).`);
    onEnd(error.code === "EPIPE" ? "unread" : "unwritten");
  });
  process.stderr.on("error", () => undefined);
}
