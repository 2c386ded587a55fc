/**
 * The master keys and their slots. A master is 32 random bytes that never leave the machine unwrapped; a slot
 * (`keys/<sha256>` in the store) holds it wrapped under a password, a random key file or the recovery key. Everything
 * else is derived from it. A rotation adds a master: records are sealed under the newest one from then on, ids and the
 * chunker stay with the first, so that nothing has to be stored again. Without encryption the derived keys are absent
 * and ids are plain SHA-256.
 */
import { createHash, randomBytes } from "node:crypto";
import { hasCode, HoldfastError } from "../base/errors.js";
import { Secret } from "../base/observe.js";
import type { Backend } from "../storage/backend.js";
import type { KeyService } from "../storage/key-service.js";
import { DEFAULT_PASSWORD_KDF, deriveKey, KEY_BYTES, type PasswordKdf, PBKDF2_KDF } from "./crypto/kdf.js";
import { encodeRecoveryKey, parseRecoveryKey } from "./crypto/recovery-key.js";
import { encodeSlot, openSlot, parseSlot, type Slot, type SlotKind, type SlotSecret } from "./crypto/slots.js";

export type { SlotKind } from "./crypto/slots.js";

/** What sealing, opening and chunking need: plain data, so that it can be handed to worker threads. Never log it. */
export interface RepositoryKeys {
  /** 32 bytes, bound into every record's seal. */
  readonly repositoryId: Uint8Array;
  /** Seals new records. Undefined: nothing is encrypted. */
  readonly recordMaster: Uint8Array | undefined;
  /** Those of the masters before the newest, the first one first: they open what was sealed before a rotation. */
  readonly olderRecordMasters: readonly Uint8Array[];
  /** Key of chunk ids; undefined: plain SHA-256. */
  readonly idKey: Uint8Array | undefined;
  /** Seed of the chunker's table. Without encryption derived from the repository id. */
  readonly chunkerKey: Uint8Array;
}

/** What opens a repository; exactly one member is given. */
export interface UnlockWith {
  readonly password?: Secret;
  /** Content of a key file: 32 bytes. */
  readonly keyBytes?: Uint8Array;
  /** As printed at creation; spaces, dashes and case do not matter. */
  readonly recoveryKey?: Secret;
  /** Wraps and unwraps the key of a slot; it is asked each time. */
  readonly keyService?: KeyService;
}

export interface SlotInfo {
  /** SHA-256 of the slot object, hex; the end of its key. */
  readonly id: string;
  /** `damaged`: its bytes are not what its name says; it opens nothing. */
  readonly kind: SlotKind | "damaged";
  /** Empty for a damaged slot. */
  readonly kdf: string;
  /** Wall ms; of a damaged slot when its object was last written. */
  readonly createdMs: number;
  /** True: made before a key rotation that did not end; it opens nothing any more. */
  readonly isRetired: boolean;
}

/** Keys of one repository. Each costs an attempt of about 0.3 s for a password. */
export const SLOTS_MAX = 32;
/** More slots are not looked at. A rotation that was cut short leaves two more than there may be keys. */
const SLOTS_READ_MAX = 2 * SLOTS_MAX;
const SLOT_PREFIX = "keys/";
const RECOVERY_BYTES = 20;

/** A new random master key, 32 bytes. */
export function newMasterKey(): Buffer {
  return randomBytes(KEY_BYTES);
}

/** A new random key file's content, 32 bytes. */
export function newKeyBytes(): Buffer {
  return randomBytes(KEY_BYTES);
}

/** A new recovery key as grouped text: 160 random bits and a checksum group. */
export function newRecoveryKey(): Secret {
  return new Secret(encodeRecoveryKey(randomBytes(RECOVERY_BYTES)));
}

/** True when the text is a recovery key, copied rightly. */
export function isRecoveryKey(text: Secret): boolean {
  try {
    return parseRecoveryKey(text.reveal()).length === RECOVERY_BYTES;
  } catch (error) {
    if (!hasCode(error, "REPO_KEY_WRONG")) throw error;
    return false;
  }
}

/** Derives what the engine uses from the masters, the first one first; none makes the keys of an unencrypted repository. */
export function deriveKeys(repositoryId: Uint8Array, masters: readonly Uint8Array[]): RepositoryKeys {
  const [first] = masters;
  const derive = (master: Uint8Array, label: string): Buffer => deriveKey(master, repositoryId, label);
  const recordMasters = masters.map((master) => derive(master, "holdfast records v1"));
  return {
    repositoryId,
    recordMaster: recordMasters.at(-1),
    olderRecordMasters: recordMasters.slice(0, -1),
    idKey: first === undefined ? undefined : derive(first, "holdfast ids v1"),
    chunkerKey: derive(first ?? repositoryId, "holdfast chunker v1"),
  };
}

/** How a password is stretched; a key file and a recovery key need no stretching. */
export type PasswordKdfName = PasswordKdf["name"];

export interface NewSlot {
  /** The first one first. */
  readonly masters: readonly Uint8Array[];
  readonly unlock: UnlockWith;
  readonly createdMs: number;
  /** Default scrypt. */
  readonly passwordKdf?: PasswordKdfName | undefined;
}

/** Wraps the masters and stores the slot durably. */
export async function addSlot(
  backend: Backend,
  repositoryId: Uint8Array,
  slot: NewSlot,
  signal: AbortSignal,
): Promise<SlotInfo> {
  const secret = secretOf(slot.unlock, signal, slot.passwordKdf);
  if (secret === undefined) throw new HoldfastError("REPO_KEY_MISSING", "no key was given for the new key slot");
  const bytes = await encodeSlot({ repositoryId, masters: slot.masters, secret, createdMs: slot.createdMs });
  const id = createHash("sha256").update(bytes).digest("hex");
  await backend.put(`${SLOT_PREFIX}${id}`, bytes, signal);
  return infoOf({ id, slot: parseSlot(bytes) }, slot.masters.length);
}

/** The masters of an open repository; empty without encryption. */
export interface KeyRing {
  /** The first one first. */
  readonly masters: readonly Buffer[];
  /** The slot that the key in use opened. */
  readonly slotId: string | undefined;
}

/** What a secret opened. */
export interface Unlocked {
  /** The first one first. */
  readonly masters: readonly Buffer[];
  /** Of the slot that it opened. */
  readonly slotId: string;
}

/** What may open a slot. */
export interface Unlocking extends UnlockWith {
  /** Told that another thread stretches a password, a quarter of a second in which this one has nothing to do. */
  readonly onTrying?: (() => void) | undefined;
}

/**
 * The master keys. Throws REPO_KEY_WRONG when no slot opens or the one that does is from before a rotation,
 * REPO_KEY_MISSING when nothing was given or no slot is there.
 */
export async function unlockMasters(
  backend: Backend,
  repositoryId: Uint8Array,
  unlock: Unlocking,
  signal: AbortSignal,
): Promise<Unlocked> {
  const secret = secretOf(unlock, signal);
  if (secret === undefined)
    throw new HoldfastError("REPO_KEY_MISSING", "the repository is encrypted; no key was given");
  const slots = await readSlots(backend, signal);
  if (slots.length === 0) throw new HoldfastError("REPO_KEY_MISSING", "the repository has no key slots left");
  const newestFirst = slots.sort((a, b) => b.slot.masterCount - a.slot.masterCount);
  const newestCount = newestMasterCount(slots);
  for (const { id, slot } of newestFirst) {
    signal.throwIfAborted();
    const opening = openSlot(slot, repositoryId, secret);
    unlock.onTrying?.();
    const masters = await opening;
    if (masters === undefined) continue;
    if (masters.length === newestCount) return { masters, slotId: id };
    throw new HoldfastError("REPO_KEY_WRONG", `this ${secret.kind} key was retired by a key rotation`, {
      hint: "Use the key that was given at the rotation.",
    });
  }
  const damaged = await damagedAmong(backend, slots, signal);
  const besides = damaged.length === 0 ? "" : `; ${String(damaged.length)} more cannot be read`;
  throw new HoldfastError(
    "REPO_KEY_WRONG",
    `the ${secret.kind} key opens none of the repository's key slots${besides}`,
    {
      ...(damaged.length === 0 ? {} : { hint: DAMAGED_SLOT_HINT }),
    },
  );
}

const DAMAGED_SLOT_HINT =
  "If the key is right, its slot is one of those: open with another key (the recovery key), or put the file in `keys/` " +
  "back from a copy of the store.";

/** All slots, damaged ones last. Throws OBJECT_DAMAGED when there are only such. */
export async function listSlots(backend: Backend, signal: AbortSignal): Promise<SlotInfo[]> {
  const slots = await readSlots(backend, signal);
  const infos = slots.map((found) => infoOf(found, newestMasterCount(slots)));
  return [...infos, ...(await damagedAmong(backend, slots, signal))];
}

function newestMasterCount(slots: readonly FoundSlot[]): number {
  return Math.max(0, ...slots.map(({ slot }) => slot.masterCount));
}

/**
 * Removes a slot, a damaged one too; the last one that opens cannot be removed (LIMIT_REACHED), an unknown one is
 * NOT_FOUND. Throws OBJECT_DAMAGED when all are damaged: something may still be got out of them.
 */
export async function removeSlot(backend: Backend, id: string, signal: AbortSignal): Promise<void> {
  const slots = await readSlots(backend, signal);
  const found = slots.find((slot) => slot.id === id);
  const damaged = found === undefined ? await damagedAmong(backend, slots, signal) : [];
  if (found === undefined && !damaged.some((slot) => slot.id === id))
    throw new HoldfastError("NOT_FOUND", "no key slot has that id");
  const newest = newestMasterCount(slots);
  const isLast = found?.slot.masterCount === newest && slots.filter((s) => s.slot.masterCount === newest).length === 1;
  if (isLast) {
    throw new HoldfastError("LIMIT_REACHED", "the last key slot cannot be removed", {
      hint: "Add another key first; without a slot the repository could never be opened again.",
    });
  }
  await backend.delete(`${SLOT_PREFIX}${id}`, signal);
}

/** Keys of slots that cannot be read. */
export async function damagedSlots(backend: Backend, signal: AbortSignal): Promise<string[]> {
  const damaged = await damagedAmong(backend, await readSlots(backend, signal), signal);
  return damaged.map(({ id }) => `${SLOT_PREFIX}${id}`);
}

/** The slots that are not among the readable ones. */
async function damagedAmong(backend: Backend, whole: readonly FoundSlot[], signal: AbortSignal): Promise<SlotInfo[]> {
  const ids = new Set(whole.map(({ id }) => id));
  const damaged: SlotInfo[] = [];
  for await (const { key, modifiedMs } of backend.list(SLOT_PREFIX, signal)) {
    const id = key.slice(SLOT_PREFIX.length);
    if (ids.has(id) || damaged.length >= SLOTS_READ_MAX) continue;
    damaged.push({ id, kind: "damaged", kdf: "", createdMs: modifiedMs, isRetired: false });
  }
  return damaged;
}

interface FoundSlot {
  readonly id: string;
  readonly slot: Slot;
}

/** All readable slots; a damaged one is left out as long as another can be read, so that one bad object locks nobody out. */
async function readSlots(backend: Backend, signal: AbortSignal): Promise<FoundSlot[]> {
  const slots: FoundSlot[] = [];
  let damage: HoldfastError | undefined;
  for await (const { key } of backend.list(SLOT_PREFIX, signal)) {
    if (slots.length >= SLOTS_READ_MAX) break;
    try {
      const bytes = await backend.get(key, signal);
      const id = createHash("sha256").update(bytes).digest("hex");
      if (key !== `${SLOT_PREFIX}${id}`)
        throw new HoldfastError("OBJECT_DAMAGED", "a key slot is not what its name says");
      slots.push({ id, slot: parseSlot(bytes) });
    } catch (error) {
      if (!hasCode(error, "OBJECT_DAMAGED") && !hasCode(error, "STORE_IO")) throw error;
      damage = error;
    }
  }
  if (slots.length === 0 && damage !== undefined) throw damage;
  return slots;
}

function secretOf(unlock: UnlockWith, signal: AbortSignal, kdf?: PasswordKdfName): SlotSecret | undefined {
  if (unlock.keyService !== undefined) return { kind: "service", service: unlock.keyService, signal };
  if (unlock.password !== undefined) {
    return {
      kind: "password",
      password: unlock.password,
      kdf: kdf === "pbkdf2-sha256" ? PBKDF2_KDF : DEFAULT_PASSWORD_KDF,
    };
  }
  if (unlock.recoveryKey !== undefined)
    return { kind: "recovery", bytes: parseRecoveryKey(unlock.recoveryKey.reveal()) };
  return unlock.keyBytes === undefined ? undefined : { kind: "raw", bytes: unlock.keyBytes };
}

function infoOf({ id, slot }: FoundSlot, newestCount: number): SlotInfo {
  const isRetired = slot.masterCount < newestCount;
  return { id, kind: slot.kind, kdf: slot.kdf.name, createdMs: slot.createdMs, isRetired };
}
