/** Golden repositories: stores that earlier programs wrote, and what has to be read from each for ever. */
import { projectPath } from "./project.js";

/** What is known of a golden repository; `facts.json` beside its store. */
export interface GoldenFacts {
  /** Content of its key file; none of an unencrypted one. It protects nothing but test data. */
  readonly keyHex: string | undefined;
  readonly recoveryKey: string | undefined;
  /** `pictureOf` when it was made. */
  readonly picture: string;
}

/** The folder of one golden repository, or of all. */
export function goldenFolder(...names: string[]): string {
  return projectPath("test", "format", "golden", ...names);
}
