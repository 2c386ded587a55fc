/** The keys that open the repository, over the API: added, removed, rotated. */
import { readFile } from "node:fs/promises";
import { isoTime } from "../../base/clock.js";
import { Secret } from "../../base/observe.js";
import type { KeyDocument, UpkeepService } from "../../api/upkeep-service.js";
import type { SlotInfo } from "../../engine/keys.js";
import type { Unlock } from "../../engine/repository.js";
import type { Parts } from "../parts.js";
import { keepRecoveryKey } from "../recovery-key.js";
import { keyFileOf, unlockOf } from "../store.js";

export function upkeepService(parts: Parts): UpkeepService {
  const { repository, ground } = parts;
  const passwordKdf = ground.configuration.encryption.kdf;
  return {
    async addKey(password) {
      const unlock = { password: new Secret(password) };
      return keyDocument(await repository.addKey({ unlock, passwordKdf }, ground.signal));
    },
    async removeKey(id) {
      return keyDocument(await repository.removeKey(id, ground.signal));
    },
    async rotateKeys(newPassword) {
      const { stateDir } = ground.configuration;
      const unlock = newPassword === undefined ? await keyInUse(parts) : { password: new Secret(newPassword) };
      const rotation = await repository.rotateKeys({ unlock, passwordKdf }, ground.signal);
      const { recoveryKey, rotations, slotsRemoved } = rotation;
      if ("keyBytes" in unlock) await keepRecoveryKey(stateDir, repository.id, recoveryKey);
      return {
        ...{ recovery_key: recoveryKey.reveal(), rotations, keys_removed: slotsRemoved },
        restart_needed: ground.isDaemon,
      };
    },
  };
}

/** The key that opened the repository: the password that was given, else the key file beside the state. */
async function keyInUse({ ground, repository }: Parts): Promise<Unlock> {
  if (ground.password !== undefined) return unlockOf(ground.password);
  if (ground.keyService !== undefined) return { keyService: ground.keyService };
  const text = await readFile(keyFileOf(ground.configuration.stateDir, repository.id), "utf8");
  return { keyBytes: Buffer.from(text.trim(), "hex") };
}

function keyDocument(slot: SlotInfo): KeyDocument {
  return { id: slot.id, kind: slot.kind, created_at: isoTime(slot.createdMs) };
}
