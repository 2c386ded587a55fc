/** The users of this machine, from /etc/passwd: whose home may hold traces of a file, and as whom a program can run. */
import { readFile } from "node:fs/promises";

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  /** Absolute. */
  readonly home: string;
}

const PASSWD = "/etc/passwd";
/** Homes that are looked into. */
const HOMES_MAX = 50;
/** Ordinary users begin here on Debian and its kin. */
const FIRST_ORDINARY_UID = 1000;
const NOBODY_UID = 65534;

/** Every user that the passwd file names. */
export async function allUsers(passwdFile = PASSWD): Promise<readonly User[]> {
  const text = await readFile(passwdFile, "utf8").catch(() => "");
  return text.split("\n").flatMap((line) => {
    const [name, , uid, gid, , home] = line.split(":");
    if (name === undefined || home?.startsWith("/") !== true || !/^\d+$/.test(uid ?? "")) return [];
    return [{ name, uid: Number(uid), gid: Number(gid), home }];
  });
}

/** Users whose homes may hold traces of a file of `ownerUid`: its owner first, then root and ordinary users. */
export async function likelyUsers(ownerUid: number | undefined): Promise<readonly User[]> {
  const users = await allUsers();
  const isLikely = (user: User): boolean =>
    user.uid === 0 || user.uid === ownerUid || (user.uid >= FIRST_ORDINARY_UID && user.uid < NOBODY_UID);
  const rank = (user: User): number => (user.uid === ownerUid ? 0 : 1);
  return users
    .filter(isLikely)
    .sort((a, b) => rank(a) - rank(b))
    .slice(0, HOMES_MAX);
}
