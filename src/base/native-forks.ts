/**
 * The kernel's connector for processes (netlink, connector(7) in the kernel's documentation) through the optional package
 * koffi: which process began which. Only root may, in the first namespaces of the machine. A failed call throws an Error
 * whose `code` is the system's error name.
 */
import { closeSync, writeSync } from "node:fs";
import { release } from "node:os";
import { bindNative, type Koffi, systemCall } from "./koffi.js";

// Numbers of the Linux ABI; the same on x64 and arm64.
const AF_NETLINK = 16;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_CONNECTOR = 11;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const NLMSG_DONE = 3;
const CN_IDX_PROC = 1;
const CN_VAL_PROC = 1;
const PROC_CN_MCAST_LISTEN = 1;
export const PROC_EVENT_FORK = 1;

/** Of `struct nlmsghdr` and `struct cn_msg`. */
export const NETLINK_HEADER_BYTES = 16;
export const CONNECTOR_HEADER_BYTES = 20;
/** Some thousand forks that nobody has read yet. */
const RECEIVE_BYTES = 4 * 2 ** 20;
/** The first kernel that can be asked for forks alone; earlier ones take no such question. */
const FILTERS_FROM = [6, 6] as const;

/**
 * Opens a socket from which each read gives one message about a fork (of earlier kernels: about whatever processes do), or
 * throws EAGAIN where none waits and ENOBUFS where some were dropped. Undefined without koffi.
 */
export function openForks(): number | undefined {
  return bindNative(bindOpen)?.();
}

function bindOpen(koffi: Koffi): () => number {
  const socket = systemCall(koffi, "socket", "int socket(int family, int kind, int protocol)");
  const bind = systemCall(koffi, "bind", "int bind(int fd, const void *address, uint bytes)");
  const signature = "int setsockopt(int fd, int level, int option, const void *value, uint bytes)";
  const setOption = systemCall(koffi, "setsockopt", signature);
  return () => {
    const fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_CONNECTOR);
    try {
      setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, numbers(RECEIVE_BYTES), 4);
      const address = Buffer.concat([Buffer.alloc(8), numbers(CN_IDX_PROC)]); // family, padding, own number, groups
      address.writeUInt16LE(AF_NETLINK, 0);
      bind(fd, address, address.length);
      writeSync(fd, listenMessage());
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
}

function listenMessage(): Buffer {
  const wish = knowsFilters() ? numbers(PROC_CN_MCAST_LISTEN, PROC_EVENT_FORK) : numbers(PROC_CN_MCAST_LISTEN);
  const message = Buffer.concat([Buffer.alloc(NETLINK_HEADER_BYTES), Buffer.alloc(CONNECTOR_HEADER_BYTES), wish]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(NLMSG_DONE, 4);
  message.writeUInt32LE(CN_IDX_PROC, NETLINK_HEADER_BYTES);
  message.writeUInt32LE(CN_VAL_PROC, NETLINK_HEADER_BYTES + 4);
  message.writeUInt16LE(wish.length, NETLINK_HEADER_BYTES + 16);
  return message;
}

function knowsFilters(): boolean {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major > FILTERS_FROM[0] || (major === FILTERS_FROM[0] && minor >= FILTERS_FROM[1]);
}

function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4);
  return bytes;
}
