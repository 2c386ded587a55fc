/** Check of structure: YAML. What it says is short and never holds content. */
import type { Complaint, Validator } from "../validator.js";
import { yamlDocuments } from "./document.js";
import { NOT_TEXT, decode, invalid, unchecked } from "./invalid.js";

export const yamlValidator: Validator = {
  name: "yaml",
  check: (content) => {
    const text = decode(content);
    return text === undefined ? NOT_TEXT : yamlFault(text);
  },
};

function yamlFault(text: string): Complaint | undefined {
  try {
    for (const document of yamlDocuments(text)) {
      const error = document.errors[0];
      if (error !== undefined)
        return invalid(
          `no valid YAML: ${error.code.toLowerCase().replaceAll("_", " ")} at byte ${String(error.pos[0])}`,
        );
    }
    return undefined;
  } catch {
    return unchecked("nested beyond what can be judged");
  }
}
