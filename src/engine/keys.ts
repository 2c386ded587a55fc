/**
 * The master key and its slots. The master is 32 random bytes that never leave the machine unwrapped; a slot
 * (`keys/<sha256>` in the store) holds it wrapped under a password, a random key file or the recovery key. Everything
 * else is derived from it. Without encryption the derived keys are absent and ids are plain SHA-256.
 */
import type { Secret } from "../base/observe.js";
import type { Backend } from "../storage/backend.js";

/** What sealing, opening and chunking need: plain data, so that it can be handed to worker threads. Never log it. */
export interface RepositoryKeys {
  /** 32 bytes, bound into every record's seal. */
  readonly repositoryId: Uint8Array;
  /** Undefined: nothing is encrypted. */
  readonly recordMaster: Uint8Array | undefined;
  /** Key of chunk ids; undefined: plain SHA-256. */
  readonly idKey: Uint8Array | undefined;
  /** Seed of the chunker's table. Without encryption derived from the repository id. */
  readonly chunkerKey: Uint8Array;
}

export type SlotKind = "password" | "raw" | "recovery";

/** What opens a repository; exactly one member is given. */
export interface UnlockWith {
  readonly password?: Secret;
  /** Content of a key file: 32 bytes. */
  readonly keyBytes?: Uint8Array;
  /** As printed at creation; spaces, dashes and case do not matter. */
  readonly recoveryKey?: Secret;
}

export interface SlotInfo {
  /** SHA-256 of the slot object, hex; the end of its key. */
  readonly id: string;
  readonly kind: SlotKind;
  readonly kdf: string;
  readonly createdMs: number;
}

/** A new random master key, 32 bytes. */
export declare function newMasterKey(): Buffer;
/** A new random key file's content, 32 bytes. */
export declare function newKeyBytes(): Buffer;
/** A new recovery key as grouped text, 160 random bits and a checksum group. */
export declare function newRecoveryKey(): Secret;
/** Derives what the engine uses; `master` undefined makes the keys of an unencrypted repository. */
export declare function deriveKeys(repositoryId: Uint8Array, master: Uint8Array | undefined): RepositoryKeys;
/** Wraps the master and stores the slot durably. */
export declare function addSlot(
  backend: Backend,
  repositoryId: Uint8Array,
  slot: { readonly master: Uint8Array; readonly unlock: UnlockWith; readonly createdMs: number },
  signal: AbortSignal,
): Promise<SlotInfo>;
/** The master key. Throws REPO_KEY_WRONG when no slot opens, REPO_KEY_MISSING when nothing was given or no slot is there. */
export declare function unlockMaster(
  backend: Backend,
  repositoryId: Uint8Array,
  unlock: UnlockWith,
  signal: AbortSignal,
): Promise<Buffer>;
export declare function listSlots(backend: Backend, signal: AbortSignal): Promise<SlotInfo[]>;
/** Removes a slot; the last one cannot be removed (LIMIT_REACHED), an unknown one is NOT_FOUND. */
export declare function removeSlot(backend: Backend, id: string, signal: AbortSignal): Promise<void>;
