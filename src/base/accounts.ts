/** The groups and users of this machine, as its own files list them; what a directory service adds is not seen. */
import { readFileSync } from "node:fs";

/** A group by name or number. */
export function findGroup(group: string): { readonly gid: number; readonly members: readonly string[] } | undefined {
  const row = readRows("/etc/group").find((fields) => fields[0] === group || fields[2] === group);
  if (row === undefined) return undefined;
  return { gid: Number(row[2]), members: (row[3] ?? "").split(",").filter((name) => name !== "") };
}

/** The fields of each line of such a file; none when it cannot be read. */
export function readRows(file: "/etc/group" | "/etc/passwd"): string[][] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return [];
  }
}
