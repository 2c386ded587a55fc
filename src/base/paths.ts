/**
 * File names of any bytes. Linux names are bytes, not text: a path in holdfast is a `BytePath`, a string that holds
 * one byte in each character (latin1), so that it is lossless, sorts bytewise, and serves as a key. It becomes a
 * Buffer at a system call and text only where a person or JSON sees it. Stored paths are absolute and normalised.
 */
import { isAbsolute, resolve } from "node:path";

/** An absolute, normalised path; one character per byte (0-255), `/` between names, no trailing `/` but for the root. */
export type BytePath = string & { readonly __brand: "BytePath" };

const BEYOND_ASCII = /[^\0-\x7f]/;

/** A path from text in UTF-8 (configuration, command line, @parcel/watcher); relative ones count from `baseDir`. */
export function pathFromText(text: string, baseDir = process.cwd()): BytePath {
  const absolute = isAbsolute(text) ? resolve(text) : resolve(baseDir, text);
  return Buffer.from(absolute, "utf8").toString("latin1") as BytePath;
}

/** True for text of which each character is one byte, the same in UTF-8 and in a byte path. */
export function isPlain(text: string): boolean {
  return !BEYOND_ASCII.test(text);
}

/** A path from the bytes of an absolute, normalised path. */
export function pathFromBytes(bytes: Uint8Array): BytePath {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as BytePath;
}

/** The bytes of a path, as system calls take them. */
export function pathBytes(path: BytePath): Buffer {
  return Buffer.from(path, "latin1");
}

/** The path as text for people and JSON; bytes that are no UTF-8 show as U+FFFD (see `isTextPath`). */
export function pathText(path: BytePath): string {
  return isPlain(path) ? path : pathBytes(path).toString("utf8");
}

/** False when `pathText` loses bytes; JSON then carries `path_b64` beside `path`. */
export function isTextPath(path: BytePath): boolean {
  return Buffer.from(pathText(path), "utf8").equals(pathBytes(path));
}

/** The JSON fields of a path: `path` always, `path_b64` only when the name is no UTF-8. */
export function pathFields(path: BytePath): { readonly path: string; readonly path_b64?: string } {
  if (isTextPath(path)) return { path: pathText(path) };
  return { path: pathText(path), path_b64: pathBytes(path).toString("base64") };
}

/** A name of one level below a folder. `name` is in bytes-as-characters, as `readdir` with latin1 gives it. */
export function joinPath(folder: BytePath, name: string): BytePath {
  return (folder === "/" ? `/${name}` : `${folder}/${name}`) as BytePath;
}

/** The folder that holds a path; the root holds itself. */
export function parentPath(path: BytePath): BytePath {
  const cut = path.lastIndexOf("/");
  return (cut <= 0 ? "/" : path.slice(0, cut)) as BytePath;
}

/** True when `folder` is the folder that holds the path; makes no new text, as `parentPath` does. */
export function isDirectlyIn(path: BytePath, folder: BytePath): boolean {
  if (folder === "/") return path !== "/" && path.lastIndexOf("/") === 0;
  return path.lastIndexOf("/") === folder.length && path.startsWith(folder);
}

/** The last name of a path, bytes as characters. */
export function nameOf(path: BytePath): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** True when `path` is `folder` itself or lies below it. */
export function isWithin(path: BytePath, folder: BytePath): boolean {
  return path === folder || folder === "/" || path.startsWith(`${folder}/`);
}

/** The part of `path` below `folder`, without a leading `/`; "" for the folder itself. */
export function relativeTo(path: BytePath, folder: BytePath): string {
  if (path === folder) return "";
  return path.slice(folder === "/" ? 1 : folder.length + 1);
}
