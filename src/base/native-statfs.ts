/** The id that a file system gives by statfs(2), which Node leaves out; through the optional package koffi. */
import { bindNative, type NativeFunction } from "./koffi.js";

/** Larger than the structure on any 64-bit Linux (120 bytes). */
const RESULT_BYTES = 256;
/** Behind seven words: type, block size, blocks, free, available, files, free files. */
const ID_OFFSET = 56;

let loaded: { readonly statfs: NativeFunction | undefined } | undefined;

/** 16 hex digits; undefined where the call cannot be made, or the file system has no id. */
export function fileSystemIdOf(path: Buffer): string | undefined {
  loaded ??= { statfs: load() };
  if (loaded.statfs === undefined) return undefined;
  const result = Buffer.alloc(RESULT_BYTES);
  if (loaded.statfs(Buffer.concat([path, Buffer.alloc(1)]), result) !== 0) return undefined;
  const id = result.toString("hex", ID_OFFSET, ID_OFFSET + 8);
  return /^0+$/.test(id) ? undefined : id;
}

function load(): NativeFunction | undefined {
  if (!["x64", "arm64"].includes(process.arch)) return undefined; // the layout is known of these
  return bindNative((koffi) => koffi.load(null).func("int statfs(const void *path, _Out_ void *result)"));
}
