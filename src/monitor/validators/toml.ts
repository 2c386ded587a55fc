/** Check of structure: TOML 1.0, by smol-toml. */
import { TomlError, parse } from "smol-toml";
import type { Validator } from "../validator.js";
import { NOT_TEXT, decode, invalid, unchecked } from "./invalid.js";

export const tomlValidator: Validator = {
  name: "toml",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return NOT_TEXT;
    try {
      parse(text);
      return undefined;
    } catch (error) {
      // The library's own message quotes the content.
      if (error instanceof TomlError)
        return invalid(`no valid TOML: line ${String(error.line)}, column ${String(error.column)}`);
      return unchecked("nested beyond what can be judged");
    }
  },
};
