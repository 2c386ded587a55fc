/** Checks that know only the outside of content: its size, and whether its first bytes fit the name's ending. */
import { formatSize } from "../../base/units.js";
import type { Check, Validator } from "../validator.js";
import { invalid, unchecked } from "./invalid.js";
import { kindOfContent, kindsOfExtension } from "./kinds.js";

export function sizeValidator({ bytesMin, bytesMax }: Extract<Check, { readonly kind: "size" }>): Validator {
  return {
    name: "size",
    check: ({ length }) => {
      if (bytesMin !== undefined && length < bytesMin) return invalid(`smaller than ${formatSize(bytesMin)}`);
      if (bytesMax !== undefined && length > bytesMax) return invalid(`larger than ${formatSize(bytesMax)}`);
      return undefined;
    },
  };
}

/** Whether the content is what the ending of the name says; endings that nobody knows are not judged. */
export function magicValidator(extension: string): Validator {
  return {
    name: "magic",
    check: (content) => {
      const kinds = kindsOfExtension(extension);
      if (kinds.length === 0) return unchecked(`nothing is known of ${extension} files`);
      const kind = kindOfContent(content);
      if (kind !== undefined && kinds.includes(kind)) return undefined;
      return invalid(`the content is ${kind ?? "of no known kind"}, not ${kinds.join(" or ")}`);
    },
  };
}
