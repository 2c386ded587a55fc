/**
 * The system's own libzstd through the optional package koffi, where both are there: nearly every Linux has the
 * library, since its package manager needs it. Contexts and scratch memory belong to this thread and are used again,
 * so that a block costs no allocation. (The native part of @cloudpss/zstd shares one context among all threads and
 * must not be loaded: two workers crash each other.)
 */
import { bindNative, type Koffi } from "../../base/koffi.js";
import type { ZstdCalls } from "./port.js";
import { Scratch } from "./scratch.js";

const LIBRARY = "libzstd.so.1";
/** The scratch memory begins with room for a bundle and grows to what it meets, at most a record: 16 MiB. */
const SCRATCH_BYTES = 1.25 * 2 ** 20;
/** What incompressible data takes at most beyond itself: 1/256 and a little (`ZSTD_COMPRESSBOUND`). */
const BOUND_SHIFT = 8;
const BOUND_BYTES = 128;

/** Undefined without koffi or the library. */
export function libraryCalls(): ZstdCalls | undefined {
  return bindNative(bindLibrary);
}

function bindLibrary(koffi: Koffi): ZstdCalls {
  const library = koffi.load(LIBRARY);
  const compress = library.func(
    "size_t ZSTD_compressCCtx(void *context, void *to, size_t room, const void *from, size_t length, int level)",
  );
  const decompress = library.func(
    "size_t ZSTD_decompressDCtx(void *context, void *to, size_t room, const void *from, size_t length)",
  );
  const compressor = library.func("void *ZSTD_createCCtx()")();
  const decompressor = library.func("void *ZSTD_createDCtx()")();
  const packed = new Scratch(SCRATCH_BYTES);
  const opened = new Scratch(SCRATCH_BYTES);
  const decompressInto = (into: Buffer, data: Uint8Array): Buffer => {
    const length = lengthOf(decompress(decompressor, into, into.length, data, data.length), into.length);
    return into.subarray(0, length);
  };
  return {
    compress: (data, level) => {
      const into = packed.ofSize(data.length + (data.length >>> BOUND_SHIFT) + BOUND_BYTES);
      const length = lengthOf(compress(compressor, into, into.length, data, data.length, level), into.length);
      return into.subarray(0, length);
    },
    decompress: (data, plainBytes, room = Buffer.allocUnsafeSlow(plainBytes)) =>
      decompressInto(room.subarray(0, plainBytes), data),
    decompressOnce: (data, plainBytes) => decompressInto(opened.ofSize(plainBytes).subarray(0, plainBytes), data),
  };
}

/** The library tells errors as lengths that no buffer has. */
function lengthOf(result: unknown, room: number): number {
  if (typeof result !== "number" || result > room) throw new Error(`libzstd refused: ${String(result)}`);
  return result;
}
