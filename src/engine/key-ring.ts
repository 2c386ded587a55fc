/**
 * Changing what opens a repository while it is open: keys added and removed, and the master rotated. Nothing stored is
 * written anew: a slot holds all masters, records say which one sealed them.
 *
 * A rotation first stores the slot of the key in use, then a new recovery key's, and last removes all others: cut short
 * between two of these steps the key in use opens the repository, and the next rotation removes what was left over.
 */
import { HoldfastError } from "../base/errors.js";
import type { Secret } from "../base/observe.js";
import type { RepositoryCore } from "./core.js";
import {
  type KeyRing,
  type PasswordKdfName,
  SLOTS_MAX,
  type SlotInfo,
  type UnlockWith,
  addSlot,
  listSlots,
  newMasterKey,
  newRecoveryKey,
  removeSlot,
} from "./keys.js";
import { MASTERS_MAX } from "./crypto/slots.js";

export interface RotateOptions {
  /** Opens the repository from now on: the key in use, or another. */
  readonly unlock: UnlockWith;
  /** How a password is stretched; default scrypt. */
  readonly passwordKdf?: PasswordKdfName | undefined;
}

export interface Rotation {
  /** Takes the place of all recovery keys before it. */
  readonly recoveryKey: Secret;
  readonly slotsRemoved: number;
  /** Rotations of this repository so far. */
  readonly rotations: number;
}

/** Adds a key; those that are there stay valid. Throws UNSUPPORTED without encryption, LIMIT_REACHED for too many keys. */
export async function addKey(
  core: RepositoryCore,
  { unlock, passwordKdf }: RotateOptions,
  signal: AbortSignal,
): Promise<SlotInfo> {
  core.writeSide();
  return await core.maintenance.run(async () => {
    const { masters } = encryptedRing(core);
    // One more than is looked at could hide the slot of the key in use.
    if ((await listSlots(core.parts.backend, signal)).length >= SLOTS_MAX)
      throw new HoldfastError("LIMIT_REACHED", `a repository has at most ${String(SLOTS_MAX)} keys`, {
        hint: "Remove one that nobody uses any more first: `holdfast keys list`.",
      });
    return await storeSlot(core, { masters, unlock, passwordKdf }, signal);
  }, signal);
}

/**
 * Removes a key by the id of its slot or a unique beginning of it, also one whose slot is damaged. Throws NOT_FOUND, LIMIT_REACHED for the last key and
 * for the one in use: the next start would not find it.
 */
export async function removeKey(core: RepositoryCore, idOrPrefix: string, signal: AbortSignal): Promise<SlotInfo> {
  core.writeSide();
  return await core.maintenance.run(async () => {
    const { backend } = core.parts;
    core.assertMine();
    const found = (await listSlots(backend, signal)).filter(({ id }) => id.startsWith(idOrPrefix));
    const [slot, other] = found;
    if (slot === undefined || idOrPrefix === "") throw new HoldfastError("NOT_FOUND", "no key slot has that id");
    if (other !== undefined) {
      throw new HoldfastError("NOT_FOUND", `${String(found.length)} key slots begin with ${idOrPrefix}`, {
        hint: "Give more of the id.",
      });
    }
    if (slot.id === core.keyRing.slotId && slot.kind !== "damaged") {
      throw new HoldfastError("LIMIT_REACHED", "this key is the one that the repository is open with", {
        hint: "Give holdfast another key first (`holdfast keys add`), start it again with that one, then remove this.",
      });
    }
    await removeSlot(backend, slot.id, signal);
    return slot;
  }, signal);
}

/** Adds a recovery key; older ones stay valid until removed. Throws UNSUPPORTED without encryption. */
export async function addRecoveryKey(core: RepositoryCore, signal: AbortSignal): Promise<Secret> {
  const recoveryKey = newRecoveryKey();
  await addKey(core, { unlock: { recoveryKey } }, signal);
  return recoveryKey;
}

/**
 * Makes a new master. What is open goes on with the master before it; from the next open on, all new data is sealed
 * under the new one. Every other key is retired. Throws UNSUPPORTED without encryption, LIMIT_REACHED.
 */
export async function rotateKeys(
  core: RepositoryCore,
  { unlock, passwordKdf }: RotateOptions,
  signal: AbortSignal,
): Promise<Rotation> {
  core.writeSide();
  return await core.maintenance.run(async () => {
    const { backend } = core.parts;
    const masters = [...encryptedRing(core).masters, newMasterKey()];
    if (masters.length > MASTERS_MAX)
      throw new HoldfastError("LIMIT_REACHED", `a key is rotated at most ${String(MASTERS_MAX - 1)} times`);
    const used = await storeSlot(core, { masters, unlock, passwordKdf }, signal);
    core.keyRing = { masters, slotId: used.id };
    const recoveryKey = newRecoveryKey();
    const recovery = await storeSlot(core, { masters, unlock: { recoveryKey } }, signal);
    let slotsRemoved = 0;
    for (const { id } of await listSlots(backend, signal)) {
      if (id === used.id || id === recovery.id) continue;
      await removeSlot(backend, id, signal);
      slotsRemoved += 1;
    }
    core.log.info("keys.rotated", { rotations: masters.length - 1, slotsRemoved });
    return { recoveryKey, slotsRemoved, rotations: masters.length - 1 };
  }, signal);
}

function encryptedRing(core: RepositoryCore): KeyRing {
  core.assertMine();
  if (core.keyRing.masters.length > 0) return core.keyRing;
  throw new HoldfastError("UNSUPPORTED", "the repository is not encrypted: it has no keys");
}

async function storeSlot(
  core: RepositoryCore,
  slot: RotateOptions & Pick<KeyRing, "masters">,
  signal: AbortSignal,
): Promise<SlotInfo> {
  const { backend, clock, config } = core.parts;
  const repositoryId = Buffer.from(config.repository_id, "hex");
  return await addSlot(backend, repositoryId, { ...slot, createdMs: clock.nowMs() }, signal);
}
