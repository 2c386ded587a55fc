/**
 * Makes the validator for a check. Heavy libraries are loaded at their first use. Commands are not here: they run as
 * programs, outside the worker.
 */
import { readFile } from "node:fs/promises";
import type { Check, FileValidator, Validator } from "../validator.js";
import { magicValidator, sizeValidator } from "./bounds.js";
import { elfValidator } from "./elf.js";
import { gzipValidator } from "./gzip.js";
import { gifValidator, jpegValidator, pngValidator } from "./images.js";
import { envValidator, iniValidator } from "./ini.js";
import { packedValidator } from "./packed.js";
import { pdfValidator } from "./pdf.js";
import { sqliteHeaderValidator, sqliteValidator } from "./sqlite.js";
import { tarValidator } from "./tar.js";
import { jsonTextValidator, jsonValidator, textValidator } from "./text.js";
import { zipValidator } from "./zip.js";

/** A check that can be made in the worker. */
export type ContentCheck = Exclude<Check, { readonly kind: "command" }>;

type Parametrised = "schema" | "rules" | "size" | "magic";
type Made = Validator | FileValidator;

/** Those that need no parameters. */
const PLAIN: Readonly<Record<Exclude<ContentCheck["kind"], Parametrised>, () => Made | Promise<Made>>> = {
  json: () => jsonValidator,
  json_text: () => jsonTextValidator,
  text: () => textValidator,
  yaml: async () => (await import("./yaml.js")).yamlValidator,
  toml: async () => (await import("./toml.js")).tomlValidator,
  xml: async () => (await import("./xml.js")).xmlValidator,
  csv: async () => (await import("./csv.js")).csvValidator,
  ini: () => iniValidator,
  env: () => envValidator,
  sqlite: sqliteValidator,
  sqlite_header: () => sqliteHeaderValidator,
  gzip: () => gzipValidator,
  packed: () => packedValidator,
  zip: () => zipValidator,
  tar: () => tarValidator,
  png: () => pngValidator,
  jpeg: () => jpegValidator,
  gif: () => gifValidator,
  pdf: () => pdfValidator,
  elf: () => elfValidator,
};

/** Throws CONFIG_INVALID when a schema cannot be used. */
export async function buildValidator(check: ContentCheck): Promise<Made> {
  if (check.kind === "schema")
    return (await import("./schema.js")).schemaValidator(await readFile(check.schemaFile, "utf8"));
  if (check.kind === "rules") return (await import("./rules.js")).rulesValidator(check.rules);
  if (check.kind === "size") return sizeValidator(check);
  if (check.kind === "magic") return magicValidator(check.extension ?? "");
  return await PLAIN[check.kind]();
}
