/** The facts of one version of a file, read from its bytes. Runs in the inspecting worker: the bytes may be hostile. */
import type { BytePath } from "../../base/paths.js";
import type { ContentCheck } from "../validators/build.js";
import { buildValidator } from "../validators/build.js";
import { type Kind, kindOfContent } from "../validators/kinds.js";
import { isEncryptedZip } from "../validators/zip.js";
import { type Facts, isSealedKind } from "./compare.js";
import { textureOf } from "./texture.js";

/** Kinds whose structure can be checked. */
const CHECKED: Readonly<Partial<Record<Kind, ContentCheck>>> = {
  gzip: { kind: "gzip" },
  zip: { kind: "zip" },
  png: { kind: "png" },
  jpeg: { kind: "jpeg" },
  gif: { kind: "gif" },
  pdf: { kind: "pdf" },
  elf: { kind: "elf" },
  tar: { kind: "tar" },
};

/** `isWhole` false: only the beginning was read, so that its structure cannot be judged. */
export async function factsOf(content: Buffer, file: BytePath, isWhole: boolean): Promise<Facts> {
  const kind = kindOfContent(content);
  const texture = textureOf(content);
  return {
    sizeBytes: content.length,
    kind,
    texture,
    isSound: isWhole ? await isSound(content, file, kind, texture.randomShare) : undefined,
    isSealed: isSealedKind(kind) || (kind === "zip" && isEncryptedZip(content)),
  };
}

async function isSound(
  content: Buffer,
  file: BytePath,
  kind: Kind | undefined,
  randomShare: number,
): Promise<boolean | undefined> {
  if (kind === undefined) return undefined;
  // The pages of a database are read only when something in it looks odd: it takes a copy and some time.
  const check: ContentCheck | undefined =
    kind === "sqlite" ? { kind: randomShare > 0 ? "sqlite" : "sqlite_header" } : CHECKED[kind];
  if (check === undefined) return undefined;
  const validator = await buildValidator(check);
  const complaint = "check" in validator ? validator.check(content) : await validator.checkFile(file, content);
  return complaint?.kind === "unchecked" ? undefined : complaint === undefined;
}
