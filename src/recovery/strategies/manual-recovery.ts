/**
 * `manual_recovery`: the end of the chain. It finds nothing by itself; it tells a person what can still be tried, with
 * the exact commands, and is honest about how little an undelete brings back.
 */
import { statfs } from "node:fs/promises";
import { type BytePath, nameOf, parentPath, pathBytes, pathText } from "../../base/paths.js";
import type { LostFile, RecoveryStrategy } from "../strategy.js";
import { quoted } from "./latest-backup.js";

/** `f_type` of ext2, ext3 and ext4. */
const EXT_FAMILY = 0xef53;

export function manualRecoveryStrategy(): RecoveryStrategy {
  return {
    id: "manual_recovery",
    effort: "reads",
    async *find() {
      // A person does this part.
    },
    advise: async (lost) => [
      `holdfast recover --file ${quoted(pathText(lost.path))} --explain`,
      `holdfast find ${quoted(`**/${textOf(nameOf(lost.path))}`)}`,
      ...(await undeleteAdvice(lost)),
    ],
  };
}

/** ext4 forgets where a deleted file's blocks were; only an unmount at once leaves a chance, and names are lost. */
async function undeleteAdvice(lost: LostFile): Promise<readonly string[]> {
  if (lost.present !== undefined) return [];
  const folder = await existingFolder(parentPath(lost.path));
  const type = await statfs(pathBytes(folder)).then(
    (found) => found.type,
    () => 0,
  );
  if (type !== EXT_FAMILY) return [];
  const where = quoted(pathText(folder));
  return [
    `# last resort, only if nothing has been written since: stop all writing to this file system now`,
    `findmnt -no SOURCE,TARGET -T ${where}`,
    `umount "$(findmnt -no TARGET -T ${where})"  # then, as root: ext4magic DEVICE -M -d /elsewhere (contents without names)`,
  ];
}

async function existingFolder(folder: BytePath): Promise<BytePath> {
  let candidate = folder;
  while (candidate !== "/") {
    const isThere = await statfs(pathBytes(candidate)).then(
      () => true,
      () => false,
    );
    if (isThere) return candidate;
    candidate = parentPath(candidate);
  }
  return candidate;
}

function textOf(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}
