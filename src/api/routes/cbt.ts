/** Routes about changed blocks of large files: `vms/{id}` is a source by another name. */
import { BASE, type Route, ok, param } from "../route.js";

export const cbtRoutes: readonly Route[] = ["sources/:name", "vms/:name"].flatMap((of): readonly Route[] => [
  {
    method: "POST",
    path: `${BASE}/${of}/cbt/init`,
    role: "backup_operator",
    summary: "Count the changed blocks of a source's large files from now on.",
    handle: async (call) => ok(await call.services.cbt.init(param(call, "name"))),
  },
  {
    method: "GET",
    path: `${BASE}/${of}/cbt/stats`,
    role: "viewer",
    summary: "Blocks of large files, of 4 KiB each, and how many of them changed.",
    handle: async (call) => ok(await call.services.cbt.stats(param(call, "name"))),
  },
]);
