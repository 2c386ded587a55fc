/**
 * One key slot: JSON with the parameters of the derivation and the master keys wrapped with AES-256-GCM. The wrapping
 * is bound to the repository id, the kind and the parameters, so that none of them can be changed unnoticed. A slot
 * made after a key rotation (version 2) holds all masters, the first one first; programs that know one only refuse it.
 */
import { randomBytes } from "node:crypto";
import { HoldfastError } from "../../base/errors.js";
import type { Secret } from "../../base/observe.js";
import { KEY_SERVICE_NAMES, type KeyService, type KeyServiceName } from "../../storage/key-service.js";
import { NONCE_BYTES, openSealed, sealParts, TAG_BYTES } from "./aead.js";
import { DEFAULT_PASSWORD_KDF, deriveKey, KEY_BYTES, type PasswordKdf, stretchPassword } from "./kdf.js";

/** `service`: the wrapping key is one that a key service (AWS KMS, Vault) wrapped. */
export type SlotKind = "password" | "raw" | "recovery" | "service";
/** Random keys need no stretching. */
export type SlotKdf = PasswordKdf | { readonly name: "hkdf-sha256" };

/** What wraps or opens a slot. */
export type SlotSecret =
  | { readonly kind: "password"; readonly password: Secret; readonly kdf?: PasswordKdf }
  | { readonly kind: "raw" | "recovery"; readonly bytes: Uint8Array }
  | { readonly kind: "service"; readonly service: KeyService; readonly signal: AbortSignal };

export interface Slot {
  readonly kind: SlotKind;
  readonly kdf: SlotKdf;
  readonly salt: Buffer;
  readonly nonce: Buffer;
  /** Master keys and tag. */
  readonly wrapped: Buffer;
  /** How many masters it holds: one more than the repository's rotations when it was made. */
  readonly masterCount: number;
  readonly createdMs: number;
  /** Of a `service` slot: who wrapped its key, and what came of it. */
  readonly service: ServiceKey | undefined;
}

export interface ServiceKey {
  readonly name: KeyServiceName;
  readonly wrapped: string;
}

export interface SlotContent {
  readonly repositoryId: Uint8Array;
  /** The first one first; at least one, at most `MASTERS_MAX`. */
  readonly masters: readonly Uint8Array[];
  readonly secret: SlotSecret;
  readonly createdMs: number;
}

/** By number of masters: one, or several. */
const SLOT_VERSIONS = { single: 1, ring: 2 } as const;
/** Rotations of one repository: one a week for 19 years. */
export const MASTERS_MAX = 1000;
const SALT_BYTES = 32;
const RANDOM_KEY_BYTES_MIN = 20;
const WRAP_LABEL = "holdfast key slot v1";

/** Wraps the master keys: the bytes of a slot object. */
export async function encodeSlot(content: SlotContent): Promise<Buffer> {
  const { secret } = content;
  const kdf: SlotKdf = secret.kind === "password" ? (secret.kdf ?? DEFAULT_PASSWORD_KDF) : { name: "hkdf-sha256" };
  const salt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const { key, service } =
    secret.kind === "service"
      ? await newServiceKey(secret, content.repositoryId)
      : { key: await wrappingKey(secret, kdf, salt), service: undefined };
  const version = content.masters.length === 1 ? SLOT_VERSIONS.single : SLOT_VERSIONS.ring;
  const bound = boundBytes(content.repositoryId, { version, kind: secret.kind, kdf });
  const wrapped = Buffer.concat(sealParts(Buffer.concat(content.masters), { key, nonce, bound }));
  const fields = {
    version,
    kind: secret.kind,
    kdf,
    salt: salt.toString("hex"),
    nonce: nonce.toString("hex"),
    wrapped: wrapped.toString("hex"),
    created_ms: content.createdMs,
    ...(service === undefined ? {} : { service }),
  };
  return Buffer.from(`${JSON.stringify(fields, undefined, 2)}\n`, "utf8");
}

/** The master keys, the first one first, or undefined when this secret does not open this slot. */
export async function openSlot(
  slot: Slot,
  repositoryId: Uint8Array,
  secret: SlotSecret,
): Promise<readonly Buffer[] | undefined> {
  if (slot.kind !== secret.kind) return undefined;
  const key =
    secret.kind === "service"
      ? await openServiceKey(slot, secret, repositoryId)
      : await wrappingKey(secret, slot.kdf, slot.salt);
  if (key === undefined) return undefined;
  const version = slot.masterCount === 1 ? SLOT_VERSIONS.single : SLOT_VERSIONS.ring;
  const bound = boundBytes(repositoryId, { version, kind: slot.kind, kdf: slot.kdf });
  const masters = openSealed(slot.wrapped, { key, nonce: slot.nonce, bound });
  if (masters === undefined) return undefined;
  return Array.from({ length: slot.masterCount }, (_, index) =>
    masters.subarray(index * KEY_BYTES, (index + 1) * KEY_BYTES),
  );
}

type ServiceSecret = Extract<SlotSecret, { readonly kind: "service" }>;

/** A random wrapping key, and what the service made of it. */
async function newServiceKey({ service, signal }: ServiceSecret, repositoryId: Uint8Array) {
  const key = randomBytes(KEY_BYTES);
  const wrapped = await service.wrap(key, contextOf(repositoryId), signal);
  return { key, service: { name: service.name, wrapped } satisfies ServiceKey };
}

/** The wrapping key of a slot, or undefined when another service wrapped it. */
async function openServiceKey(
  slot: Slot,
  { service, signal }: ServiceSecret,
  repositoryId: Uint8Array,
): Promise<Buffer | undefined> {
  if (slot.service?.name !== service.name) return undefined;
  const key = await service.unwrap(slot.service.wrapped, contextOf(repositoryId), signal);
  return key.length === KEY_BYTES ? key : undefined;
}

/** What a service is told the key is for. */
function contextOf(repositoryId: Uint8Array): string {
  return Buffer.from(repositoryId).toString("hex");
}

async function wrappingKey(secret: Exclude<SlotSecret, ServiceSecret>, kdf: SlotKdf, salt: Buffer): Promise<Buffer> {
  if (secret.kind === "password") {
    if (kdf.name === "hkdf-sha256") throw damagedSlot("a password slot has no stretching");
    return await stretchPassword(secret.password.reveal(), salt, kdf);
  }
  if (secret.bytes.length < RANDOM_KEY_BYTES_MIN) {
    throw new HoldfastError("REPO_KEY_WRONG", `a key file holds ${KEY_BYTES} bytes, this one ${secret.bytes.length}`);
  }
  return deriveKey(secret.bytes, salt, WRAP_LABEL);
}

interface BoundFields {
  readonly version: 1 | 2;
  readonly kind: SlotKind;
  readonly kdf: SlotKdf;
}

function boundBytes(repositoryId: Uint8Array, { version, kind, kdf }: BoundFields): Buffer {
  const text = `holdfast key slot v${String(version)}\0${kind}\0${kdfText(kdf)}`;
  return Buffer.concat([repositoryId, Buffer.from(text, "ascii")]);
}

/** The parameters as one fixed text, independent of JSON spelling. */
function kdfText(kdf: SlotKdf): string {
  switch (kdf.name) {
    case "scrypt":
      return `scrypt ${kdf.costLog2} ${kdf.blockSize} ${kdf.parallel}`;
    case "pbkdf2-sha256":
      return `pbkdf2-sha256 ${kdf.iterations}`;
    case "hkdf-sha256":
      return "hkdf-sha256";
  }
}

/** Reads a slot object. Throws OBJECT_DAMAGED, REPO_FORMAT_UNSUPPORTED. */
export function parseSlot(bytes: Uint8Array): Slot {
  const fields = parseObject(Buffer.from(bytes).toString("utf8"));
  const version = fields["version"];
  if (version !== SLOT_VERSIONS.single && version !== SLOT_VERSIONS.ring) {
    throw new HoldfastError("REPO_FORMAT_UNSUPPORTED", "a key slot has an unknown version");
  }
  const kind = fields["kind"];
  if (kind !== "password" && kind !== "raw" && kind !== "recovery" && kind !== "service")
    throw damagedSlot("its kind is unknown");
  const wrapped = wrappedField(fields["wrapped"], version);
  return {
    kind,
    kdf: parseKdf(fields["kdf"]),
    salt: hexField(fields["salt"], SALT_BYTES),
    nonce: hexField(fields["nonce"], NONCE_BYTES),
    wrapped,
    masterCount: (wrapped.length - TAG_BYTES) / KEY_BYTES,
    createdMs: numberField(fields["created_ms"]),
    service: kind === "service" ? parseServiceKey(fields["service"]) : undefined,
  };
}

/** What a service wrapped is at most a few hundred bytes long. */
const WRAPPED_CHARACTERS_MAX = 10_000;

function parseServiceKey(value: unknown): ServiceKey {
  const fields = asFields(value);
  const name = KEY_SERVICE_NAMES.find((known) => known === fields["name"]);
  const wrapped = fields["wrapped"];
  if (name === undefined || typeof wrapped !== "string" || wrapped.length > WRAPPED_CHARACTERS_MAX)
    throw damagedSlot("its key service is unknown");
  return { name, wrapped };
}

function parseKdf(value: unknown): SlotKdf {
  const fields = asFields(value);
  switch (fields["name"]) {
    case "hkdf-sha256":
      return { name: "hkdf-sha256" };
    case "pbkdf2-sha256":
      return { name: "pbkdf2-sha256", iterations: numberField(fields["iterations"]) };
    case "scrypt":
      return {
        name: "scrypt",
        costLog2: numberField(fields["costLog2"]),
        blockSize: numberField(fields["blockSize"]),
        parallel: numberField(fields["parallel"]),
      };
    default:
      throw damagedSlot("its derivation is unknown");
  }
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    return asFields(JSON.parse(text) as unknown);
  } catch (error) {
    throw error instanceof HoldfastError ? error : damagedSlot("it is no JSON");
  }
}

function asFields(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw damagedSlot("it is no object");
  return value as Readonly<Record<string, unknown>>;
}

/** The wrapped masters: exactly one in version 1, several in version 2. */
function wrappedField(value: unknown, version: 1 | 2): Buffer {
  const digits = typeof value === "string" ? value.length : 0;
  const masters = (digits / 2 - TAG_BYTES) / KEY_BYTES;
  const fits = version === SLOT_VERSIONS.single ? masters === 1 : masters >= 2 && masters <= MASTERS_MAX;
  if (!fits || !Number.isInteger(masters)) throw damagedSlot("a field has a wrong length");
  return hexField(value, digits / 2);
}

function hexField(value: unknown, lengthBytes: number): Buffer {
  const bytes = typeof value === "string" && /^[0-9a-f]*$/.test(value) ? Buffer.from(value, "hex") : undefined;
  if (bytes?.length !== lengthBytes) throw damagedSlot("a field has a wrong length");
  return bytes;
}

function numberField(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw damagedSlot("a number is missing");
  return value;
}

function damagedSlot(why: string): HoldfastError {
  return new HoldfastError("OBJECT_DAMAGED", `a key slot is damaged: ${why}`);
}
