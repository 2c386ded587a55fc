/** Routes about the upkeep of the repository: repair it, add, remove and rotate its keys. */
import * as contract from "../contract.js";
import { BASE, type Route, accepted, created, ok, param } from "../route.js";

export const upkeepRoutes: readonly Route[] = [
  {
    method: "POST",
    path: `${BASE}/repository/repair`,
    role: "admin",
    summary: "Make good what is damaged: from parity, another copy, or the live files.",
    body: contract.repairBody,
    handle: async (call) => {
      const { dry_run: dryRun, read_data: readData, from } = (call.body ?? {}) as contract.RepairBody;
      const request = {
        dry_run: dryRun ?? false,
        read_data: readData ?? false,
        ...(from === undefined ? {} : { from }),
      };
      return accepted(await call.services.repository.repair(request));
    },
  },
  {
    method: "POST",
    path: `${BASE}/keys`,
    role: "admin",
    summary: "Add a password that opens the repository.",
    body: contract.addKeyBody,
    handle: async (call) => {
      const key = await call.services.upkeep.addKey((call.body as contract.AddKeyBody).password);
      return created(key, `${BASE}/keys/${key.id}`);
    },
  },
  {
    method: "DELETE",
    path: `${BASE}/keys/:id`,
    role: "admin",
    summary: "Remove a key; never the last one, nor the one in use.",
    handle: async (call) => ok(await call.services.upkeep.removeKey(param(call, "id"))),
  },
  {
    method: "POST",
    path: `${BASE}/keys/rotate`,
    role: "admin",
    summary: "Seal new data under a new master key; every key but the one in use is retired.",
    body: contract.rotateKeysBody,
    handle: async (call) => {
      const { new_password: password } = (call.body ?? {}) as contract.RotateKeysBody;
      return ok(await call.services.upkeep.rotateKeys(password));
    },
  },
];
