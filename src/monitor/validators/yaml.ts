/** Check of structure: YAML. What it says is short and never holds content. */
import { parseAllDocuments } from "yaml";
import type { Validator } from "../validator.js";
import { decode } from "./text.js";

export const yamlValidator: Validator = {
  name: "yaml",
  check: (content) => {
    const text = decode(content);
    if (text === undefined) return { kind: "invalid_structure", detail: "not UTF-8 text" };
    const fault = yamlFault(text);
    return fault === undefined ? undefined : { kind: "invalid_structure", detail: `no valid YAML: ${fault}` };
  },
};

function yamlFault(text: string): string | undefined {
  try {
    for (const document of parseAllDocuments(text, { logLevel: "silent", prettyErrors: false })) {
      if (!("errors" in document)) continue;
      const error = document.errors[0];
      if (error !== undefined)
        return `${error.code.toLowerCase().replaceAll("_", " ")} at byte ${String(error.pos[0])}`;
    }
    return undefined;
  } catch {
    return undefined; // nested beyond what can be judged
  }
}
