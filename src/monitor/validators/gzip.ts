/** Check of structure: gzip, inflated to its end with its checksums, within a limit. */
import { gunzipSync } from "node:zlib";
import type { Validator } from "../validator.js";
import { invalid, unchecked } from "./invalid.js";

/** Content that is inflated at most, bytes; beyond, the rest is not judged. */
const INFLATED_BYTES_MAX = 128 * 2 ** 20;

export const gzipValidator: Validator = {
  name: "gzip",
  check: (content) => {
    if (content[0] !== 0x1f || content[1] !== 0x8b) return invalid("it does not begin as gzip");
    try {
      gunzipSync(content, { maxOutputLength: INFLATED_BYTES_MAX });
      return undefined;
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : "";
      if (code === "ERR_BUFFER_TOO_LARGE") return unchecked("it inflates beyond the limit for checks");
      return invalid(code === "Z_BUF_ERROR" ? "the gzip stream ends too early" : "the gzip stream is broken");
    }
  },
};
