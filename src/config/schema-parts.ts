/**
 * The pieces that `schema.ts` is written with. `x-` keywords are our own: `x-secret` (a reference to a secret, never a
 * literal) and `x-later` (keys or names of capabilities that this version does not have: refused by name).
 */
import type { TSchema } from "typebox";
import * as Type from "typebox/type";
import type { SecretReference } from "./configuration.js";

/** Limits of a configuration file; generous for people, tight for mistakes. */
export const CONFIG_LIMITS = { fileBytesMax: 1_048_576, sourcesMax: 1000, listMax: 10_000, includesMax: 100 } as const;

type Options = Readonly<Record<string, unknown>>;

export const text = (description: string, options: Options = {}) =>
  Type.String({ description, minLength: 1, ...options });
export const flag = (description: string, fallback?: boolean) =>
  Type.Boolean({ description, ...(fallback === undefined ? {} : { default: fallback }) });
export const count = (description: string, options: Options = {}) =>
  Type.Integer({ description, minimum: 0, ...options });
export const texts = (description: string, options: Options = {}) =>
  Type.Array(Type.String({ minLength: 1 }), { description, maxItems: CONFIG_LIMITS.listMax, ...options });
/** A file, folder or glob. `~` is refused: whose home it meant would depend on who runs the daemon. */
const PATH = { format: "path", pattern: "^[^~]" };
export const path = (description: string) => text(description, PATH);
export const paths = (description: string, options: Options = {}) =>
  Type.Array(Type.String({ minLength: 1, ...PATH }), { description, maxItems: CONFIG_LIMITS.listMax, ...options });
export const duration = (description: string, fallback?: string) =>
  text(description, {
    format: "duration",
    pattern: "^(\\d+(\\.\\d+)?(ms|s|m|h|d|w))+$",
    ...(fallback === undefined ? {} : { default: fallback }),
  });
export const size = (description: string, fallback?: string) =>
  text(description, {
    format: "size",
    pattern: "^\\d+(\\.\\d+)?\\s*(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$",
    ...(fallback === undefined ? {} : { default: fallback }),
  });
export const share = (description: string, fallback?: string) =>
  text(description, {
    format: "share",
    pattern: "^(100(\\.0+)?|\\d{1,2}(\\.\\d+)?)%$",
    ...(fallback === undefined ? {} : { default: fallback }),
  });
/** A mapping whose keys are all known. */
export const mapping = <P extends Record<string, TSchema>>(description: string, properties: P, options: Options = {}) =>
  Type.Object(properties, { description, additionalProperties: false, ...options });
export const choice = <const V extends readonly string[]>(description: string, values: V, fallback?: V[number]) =>
  Type.Unsafe<V[number]>({ enum: [...values], description, ...(fallback === undefined ? {} : { default: fallback }) });
export const optional = Type.Optional;

export const secret = (description: string) =>
  Type.Unsafe<SecretReference>(
    mapping(
      description,
      {
        file: optional(path("File that holds the secret; its last line break is ignored.")),
        env: optional(text("Environment variable that holds it.")),
        credential: optional(text("Name of a systemd credential (`LoadCredential=`).", { pattern: "^[^/]+$" })),
        command: optional(texts("Program and arguments that print it; no shell.", { minItems: 1 })),
      },
      { minProperties: 1, maxProperties: 1, "x-secret": true },
    ),
  );

export const match = text(
  "Pattern on the path below the source's folder, or on an absolute path (`**`, `*.json`, `ssl/**`).",
);
