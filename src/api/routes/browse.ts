/** Routes that show a backup as a file system: one folder, a part of a file, the small files of a folder at once. */
import * as contract from "../contract.js";
import { BASE, type Route, list, param, queryPath } from "../route.js";

const BYTES = "application/octet-stream";

export const browseRoutes: readonly Route[] = [
  {
    method: "GET",
    path: `${BASE}/backups/:id/folder`,
    role: "viewer",
    summary: "What stands directly in a folder of a backup, with all metadata.",
    query: contract.folderQuery,
    handle: (call) => {
      const folder = queryPath(call.query as contract.FolderQuery);
      return list(call.services.browse.folder(param(call, "id"), { folder }, call.signal));
    },
  },
  {
    method: "GET",
    path: `${BASE}/backups/:id/range`,
    role: "backup_operator",
    summary: "A part of a file in a backup.",
    query: contract.rangeQuery,
    handle: async (call) => {
      const query = call.query as contract.RangeQuery;
      const { offset, length } = query;
      const range = { offset, length };
      const parts = await call.services.browse.range(param(call, "id"), queryPath(query), range, call.signal);
      return { kind: "bytes", contentType: BYTES, parts };
    },
  },
  {
    method: "GET",
    path: `${BASE}/backups/:id/contents`,
    role: "backup_operator",
    summary: "Small files of a folder in one answer: for each 4 bytes length (LE), a JSON head, its bytes.",
    query: contract.contentsQuery,
    handle: (call) => {
      const query = call.query as contract.ContentsQuery;
      const fromName = Buffer.from(query.from_b64, "base64").toString("latin1");
      const request = { folder: queryPath(query), from_name: fromName, source: query.source };
      const parts = call.services.browse.contents(param(call, "id"), request, query.count, call.signal);
      return { kind: "bytes", contentType: BYTES, parts };
    },
  },
];
