/**
 * The checksums of LevelDB's files, kept while nobody has them open. LevelDB does not look at its own when it reads, and
 * a changed bit in the skeleton of a table can make it skip entries without a word; entries that are there carry a
 * checksum each (`level-store.ts`). Written at a clean close, compared and removed at the next open; after a crash there
 * is none, and nothing can be said.
 */
import { readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { errnoOf } from "../../base/errors.js";

const SEAL_NAME = "holdfast-seal";
/** A file of ours beside LevelDB's, which is true as long as those are as they were when it was made. */
export const NOTES_NAME = "holdfast-notes";
/** Files that LevelDB reads again, and ours; its messages and lock are none of them. */
const READ_AGAIN = new RegExp(`^(?:\\d+\\.(?:ldb|log)|MANIFEST-\\d+|CURRENT|${NOTES_NAME})$`);

/** Size and CRC-32 of each file, by name. */
type Checksums = Readonly<Record<string, string>>;

/** Notes the files as they are. The database must be closed. */
export async function sealFolder(folder: string): Promise<void> {
  const text = JSON.stringify(await checksumsOf(folder));
  const path = join(folder, SEAL_NAME);
  await writeFile(`${path}.new`, `${checksumOf(Buffer.from(text))} ${text}`);
  await rename(`${path}.new`, path);
}

/** What a seal said. */
export interface SealState {
  /** False: none was made, so nothing is known. */
  readonly wasSealed: boolean;
  /** A file that is not as it was when the seal was made. */
  readonly changed: string | undefined;
}

/** Removes the seal and tells what it said. */
export async function breakSeal(folder: string): Promise<SealState> {
  const sealed = await readSeal(join(folder, SEAL_NAME));
  if (sealed === undefined) return { wasSealed: false, changed: undefined };
  const found = await checksumsOf(folder);
  await rm(join(folder, SEAL_NAME), { force: true });
  const changed = Object.keys({ ...sealed, ...found }).find((name) => sealed[name] !== found[name]);
  return { wasSealed: true, changed };
}

async function readSeal(path: string): Promise<Checksums | undefined> {
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  const [size = "", crc = "", ...rest] = content.split(" ");
  const text = rest.join(" ");
  // A seal that is itself damaged shows every file as changed.
  return `${size} ${crc}` === checksumOf(Buffer.from(text)) ? (JSON.parse(text) as Checksums) : { [SEAL_NAME]: "" };
}

async function checksumsOf(folder: string): Promise<Checksums> {
  const checksums: Record<string, string> = {};
  for (const name of (await readdir(folder)).filter((each) => READ_AGAIN.test(each)).sort()) {
    checksums[name] = checksumOf(await readFile(join(folder, name)));
  }
  return checksums;
}

function checksumOf(bytes: Buffer): string {
  return `${String(bytes.length)} ${crc32(bytes).toString(16)}`;
}
