/**
 * The repository's own configuration: `config/1` and `config/2`, the same JSON document with its SHA-256 behind it,
 * two copies because nothing opens without it. It holds no secret.
 */
import { HoldfastError, hasCode } from "../base/errors.js";
import type { Backend } from "../storage/backend.js";
import { CHUNK_PROFILES } from "./chunk/profiles.js";
import { decodeDigested, encodeDigested } from "./digested-json.js";

export interface RepositoryConfig {
  readonly format: "holdfast";
  readonly version: 1;
  /** 64 hex. */
  readonly repository_id: string;
  readonly encrypted: boolean;
  readonly created_at: string;
  /** What a program must know before it may do each kind of work; unknown names make it refuse. */
  readonly features: { readonly read: readonly string[]; readonly write: readonly string[] };
  readonly chunking: Readonly<Record<string, unknown>>;
}

const COPIES = ["config/1", "config/2"] as const;

export function newConfig(repositoryId: string, encrypted: boolean, createdAt: string): RepositoryConfig {
  return {
    format: "holdfast",
    version: 1,
    repository_id: repositoryId,
    encrypted,
    created_at: createdAt,
    features: { read: [], write: [] },
    chunking: { algorithm: "gear64", profiles: CHUNK_PROFILES },
  };
}

/** Stores the copies that are not there yet (all unless told), each durable before the next. */
export async function writeConfig(
  backend: Backend,
  config: RepositoryConfig,
  signal: AbortSignal,
  copies: readonly string[] = COPIES,
): Promise<void> {
  const bytes = encodeDigested(JSON.stringify(config, undefined, 2));
  for (const key of copies) await backend.put(key, bytes, signal);
}

export interface FoundConfig {
  readonly config: RepositoryConfig;
  /** Copies that are not whole: `check` tells of them. */
  readonly damagedCopies: readonly string[];
  /** Copies that are not there, as after an `init` that was cut short: whoever may write stores them again. */
  readonly missingCopies: readonly string[];
}

/** Throws REPO_NOT_FOUND, REPO_CONFIG_DAMAGED when no copy is whole, STORE_IO when one does not read, REPO_FORMAT_UNSUPPORTED. */
export async function readConfig(backend: Backend, signal: AbortSignal): Promise<FoundConfig> {
  const damaged: string[] = [];
  const missing: string[] = [];
  let config: RepositoryConfig | undefined;
  let failure: HoldfastError | undefined;
  for (const key of COPIES) {
    const found = await readCopy(backend, key, signal);
    if (found === "missing") missing.push(key);
    else if (found === "damaged" || found instanceof HoldfastError) damaged.push(key);
    else config ??= found;
    if (found instanceof HoldfastError) failure = found;
  }
  if (missing.length === COPIES.length) throw new HoldfastError("REPO_NOT_FOUND", `no repository at ${backend.url}`);
  if (config === undefined && failure !== undefined) throw failure;
  if (config === undefined) {
    throw new HoldfastError("REPO_CONFIG_DAMAGED", `the configuration of the repository at ${backend.url} is damaged`);
  }
  return { config, damagedCopies: damaged, missingCopies: missing };
}

async function readCopy(
  backend: Backend,
  key: string,
  signal: AbortSignal,
): Promise<RepositoryConfig | HoldfastError | "missing" | "damaged"> {
  let bytes: Buffer;
  try {
    bytes = await backend.get(key, signal);
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING")) return "missing";
    if (hasCode(error, "STORE_IO")) return error; // the other copy may be on a better place of the disk
    throw error;
  }
  const document = decodeDigested(bytes);
  return document === undefined ? "damaged" : parseConfig(document);
}

function parseConfig(value: unknown): RepositoryConfig {
  if (!isConfig(value)) {
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", "the repository's configuration is of an unknown form");
  }
  const unknown = [...value.features.read, ...value.features.write];
  if (unknown.length > 0) {
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", `the repository needs features: ${unknown.join(", ")}`);
  }
  return value;
}

function isConfig(value: unknown): value is RepositoryConfig {
  if (typeof value !== "object" || value === null) return false;
  const config = value as Partial<Record<keyof RepositoryConfig, unknown>>;
  return (
    config.format === "holdfast" &&
    config.version === 1 &&
    typeof config.repository_id === "string" &&
    /^[0-9a-f]{64}$/.test(config.repository_id) &&
    typeof config.encrypted === "boolean" &&
    isFeatures(config.features)
  );
}

function isFeatures(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { read, write } = value as { read?: unknown; write?: unknown };
  return Array.isArray(read) && Array.isArray(write);
}
