/**
 * Path steps that cannot be tricked. A chain of folders is opened component by component, each below the descriptor
 * of the one before (`/proc/self/fd/N/name`) and never through a symbolic link, so that whoever swaps a folder for a
 * link while we work cannot make us write elsewhere. Calls are synchronous and short, except `sync`.
 */
import type { BigIntStats } from "node:fs";
import type { BytePath } from "./paths.js";

export interface AnchorOptions {
  /** Missing folders below the root are made with this mode; undefined: ENOENT is thrown. */
  readonly makeMode?: number;
}

/** An open folder. Names are single components in bytes-as-characters; "", ".", ".." and names with "/" are refused. */
export declare class AnchoredFolder implements AsyncDisposable {
  /** Descriptor of the folder, for as long as it is not disposed. */
  readonly fd: number;
  /** Where it was when it was opened. */
  readonly path: BytePath;
  /** Opens a sub-folder; TARGET_UNSAFE when the name is a symbolic link or no folder, ENOENT when missing. */
  child(name: string, options?: AnchorOptions): AnchoredFolder;
  /** Path of a name below this descriptor, for calls that this class does not have; valid while it is open. */
  at(name: string): Buffer;
  /** Stat without following; undefined when there is no such name. */
  lstat(name: string): BigIntStats | undefined;
  /** Opens a file below, never through a link (O_NOFOLLOW is added); the caller closes the descriptor. */
  openFile(name: string, flags: number, mode?: number): number;
  readlink(name: string): string;
  names(): string[];
  mkdir(name: string, mode: number): void;
  symlink(target: string, name: string): void;
  /** Hard link; EEXIST when `name` is taken: nothing is overwritten. */
  link(fromName: string, to: AnchoredFolder, name: string): void;
  rename(fromName: string, to: AnchoredFolder, name: string): void;
  unlink(name: string): void;
  rmdir(name: string): void;
  /** Makes the names in this folder durable. */
  sync(): Promise<void>;
  /** True while the path still leads to this very folder without passing a symbolic link below the root. */
  verify(): boolean;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens `folder`, which must be `root` or below it. `root` is trusted as configured: links in it are resolved once;
 * below it none is followed. Throws TARGET_UNSAFE, and the system's errors (ENOENT, EACCES).
 */
export declare function openAnchored(root: BytePath, folder: BytePath, options?: AnchorOptions): AnchoredFolder;
