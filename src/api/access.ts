/**
 * Who asks, and what they may do. On the Unix socket the kernel says who is at the other end: root and the daemon's
 * own user are admin, members of the configured group are backup_operator, others are what the configuration says.
 * Where the system call cannot be made, the permissions of the socket decide: whoever could connect is the owner or in
 * its group. A connection that was never judged is refused.
 */
import type { Socket } from "node:net";
import { findGroup, readRows } from "../base/accounts.js";
import { HoldfastError } from "../base/errors.js";
import type { NativeCalls } from "../base/native.js";
import { ROLES, type Role } from "./route.js";
import type { Caller } from "./services.js";

export interface AccessOptions {
  /** Group whose members are `backup_operator`; undefined: none. */
  readonly group: string | undefined;
  /** What a local user who is neither root, nor the daemon's own user, nor in the group may do. */
  readonly others: "viewer" | "refuse";
}

/** What the socket's own permissions say. */
export interface SocketGuard {
  /** Permission bits of the socket file. */
  readonly mode: number;
}

/** The caller at the other end of a connection, or undefined when it is to be refused. */
export type Judge = (socket: Socket) => Caller | undefined;

export type PeerCredentials = ReturnType<NativeCalls["peerCredentials"]>;

/** Makes the judge of a Unix socket. `calls` undefined: the socket's permissions decide. */
export function unixJudge(options: AccessOptions, guard: SocketGuard, calls: NativeCalls | undefined): Judge {
  return (socket) => {
    const peer = peerOf(socket, calls);
    if (peer === undefined) return byPermissions(options, guard);
    return judgePeer(options, peer, (group) => isMember(group, peer));
  };
}

/** The rule itself, for a known peer. */
export function judgePeer(
  options: AccessOptions,
  peer: PeerCredentials,
  isInGroup: (group: string) => boolean,
): Caller | undefined {
  const name = `uid ${peer.uid}`;
  if (peer.uid === 0 || peer.uid === process.getuid?.()) return { role: "admin", name };
  if (options.group !== undefined && isInGroup(options.group)) return { role: "backup_operator", name };
  return options.others === "viewer" ? { role: "viewer", name } : undefined;
}

function byPermissions(options: AccessOptions, guard: SocketGuard): Caller | undefined {
  const name = "local";
  if ((guard.mode & 0o077) === 0) return { role: "admin", name };
  if ((guard.mode & 0o007) === 0 && options.group !== undefined) return { role: "backup_operator", name };
  return options.others === "viewer" ? { role: "viewer", name } : undefined;
}

function peerOf(socket: Socket, calls: NativeCalls | undefined): PeerCredentials | undefined {
  const handle = (socket as unknown as { readonly _handle?: { readonly fd?: number } | null })._handle;
  if (calls === undefined || handle?.fd === undefined || handle.fd < 0) return undefined;
  return calls.peerCredentials(handle.fd);
}

/** True when the group is the peer's own or lists its user. Read anew each time: a change counts at once. */
function isMember(group: string, peer: PeerCredentials): boolean {
  const row = findGroup(group);
  if (row === undefined) return false;
  if (row.gid === peer.gid) return true;
  const user = readRows("/etc/passwd").find((fields) => fields[2] === String(peer.uid))?.[0];
  return user !== undefined && row.members.includes(user);
}

/** Throws PERMISSION_DENIED when the caller's role is below the route's. */
export function requireRole(caller: Caller | undefined, least: Role): asserts caller is Caller {
  if (caller === undefined) {
    throw new HoldfastError("PERMISSION_DENIED", "this account may not use the control socket");
  }
  if (ROLES.indexOf(caller.role) < ROLES.indexOf(least)) {
    throw new HoldfastError("PERMISSION_DENIED", `${caller.name} is ${caller.role}, and this needs ${least}`);
  }
}

/**
 * Throws PERMISSION_DENIED unless the caller may have the daemon write at a place of the caller's choice. With the
 * daemon's rights that is as much as root's: a stored script put into a folder of cron's is run. Putting back what was
 * protected where it was, and reading what is stored, is all that an operator needs.
 */
export function requirePlaceOfChoice(caller: Caller): void {
  if (caller.role === "admin") return;
  throw new HoldfastError(
    "PERMISSION_DENIED",
    `${caller.name} is ${caller.role}, and writing anywhere but to the original places needs admin`,
    { hint: "Take the content out with `holdfast cat`, or have root run the command." },
  );
}

/** Names a request on the socket may be for; a name with a dot comes from a web page that was led here. */
export function requireLocalHost(headers: Readonly<Record<string, string | string[] | undefined>>): void {
  const host = String(headers["host"] ?? "").replace(/:\d+$/, "");
  const isLocal = !host.includes(".") || /^127\.\d+\.\d+\.\d+$/.test(host);
  if (!isLocal || headers["origin"] !== undefined) {
    throw new HoldfastError("PERMISSION_DENIED", "the request comes from a web page or names another host");
  }
}
