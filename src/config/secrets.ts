/**
 * Reads a secret where the configuration says it is: a file, an environment variable, a systemd credential or a
 * program. The value is a `Secret` from here on; it is never logged, never put on a command line.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { HoldfastError, errnoOf, messageOf } from "../base/errors.js";
import { Secret } from "../base/observe.js";
import { runProgram } from "../base/spawn.js";
import type { SecretReference } from "./configuration.js";

const SECRET_BYTES_MAX = 64 * 1024;
const COMMAND_TIMEOUT_MS = 30_000;

export interface SecretOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told when the secret can be read by people who should not. */
  readonly warn?: (message: string) => void;
}

/** The secret; one line break at its end is taken off. Throws SECRET_UNREADABLE. */
export async function readSecret(
  reference: SecretReference,
  options: SecretOptions,
  signal: AbortSignal,
): Promise<Secret> {
  const value = (await readValue(reference, options, signal)).replace(/\r?\n$/, "");
  if (value === "") throw unreadable(reference, "it is empty");
  if (Buffer.byteLength(value) > SECRET_BYTES_MAX) throw unreadable(reference, "it is larger than 64 KiB");
  return new Secret(value);
}

async function readValue(reference: SecretReference, options: SecretOptions, signal: AbortSignal): Promise<string> {
  const env = options.env ?? process.env;
  if ("file" in reference) return await readSecretFile(reference, reference.file, options);
  if ("env" in reference) {
    const value = env[reference.env];
    if (value === undefined) throw unreadable(reference, "the variable is not set");
    return value;
  }
  if ("credential" in reference) {
    const folder = env["CREDENTIALS_DIRECTORY"];
    if (folder === undefined) throw unreadable(reference, "there is no CREDENTIALS_DIRECTORY");
    return await readSecretFile(reference, join(folder, reference.credential), {});
  }
  return await runSecretCommand(reference, reference.command, signal);
}

async function readSecretFile(reference: SecretReference, path: string, options: SecretOptions): Promise<string> {
  try {
    const { mode, size } = await stat(path);
    if (size > SECRET_BYTES_MAX) throw new Error("it is larger than 64 KiB");
    if ((mode & 0o007) !== 0) options.warn?.(`${path} can be read by everybody; run: chmod 600 ${path}`);
    return await readFile(path, "utf8");
  } catch (error) {
    throw unreadable(reference, errnoOf(error) === "ENOENT" ? "there is no such file" : messageOf(error), error);
  }
}

async function runSecretCommand(
  reference: SecretReference,
  command: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const options = { timeoutMs: COMMAND_TIMEOUT_MS, signal, outputBytesMax: SECRET_BYTES_MAX };
  const result = await runProgram(command, options).catch((error: unknown) => {
    throw unreadable(reference, messageOf(error), error);
  });
  // What the program printed may hold the secret, so only its exit code is told.
  if (result.exitCode !== 0) throw unreadable(reference, `the program ended with ${result.exitCode}`);
  return result.stdout.toString("utf8");
}

/** A reference as people may see it: where the secret is, never what it is. */
export function secretPlace(reference: SecretReference): string {
  if ("file" in reference) return `file ${reference.file}`;
  if ("env" in reference) return `environment variable ${reference.env}`;
  if ("credential" in reference) return `credential ${reference.credential}`;
  return `program ${reference.command[0] ?? ""}`;
}

function unreadable(reference: SecretReference, why: string, cause?: unknown): HoldfastError {
  return new HoldfastError("SECRET_UNREADABLE", `cannot read the secret in ${secretPlace(reference)}: ${why}`, {
    cause,
  });
}
