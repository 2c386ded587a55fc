/** The key service of the configuration, with its secrets read; nothing is asked of it yet. */
import { readFile } from "node:fs/promises";
import type { Clock } from "../base/clock.js";
import { HoldfastError, messageOf } from "../base/errors.js";
import type { Logger, Secret } from "../base/observe.js";
import type { Configuration, SecretReference } from "../config/configuration.js";
import { readSecret } from "../config/secrets.js";
import type { KeyService } from "../storage/key-service.js";
import { openKeyService } from "../storage/open-key-service.js";

/** Undefined when none is configured. Throws SECRET_UNREADABLE, USAGE for an address without TLS. */
export async function keyServiceFor(
  { encryption: { keyService: wanted } }: Configuration,
  { clock, log }: { readonly clock: Clock; readonly log: Logger },
  signal: AbortSignal,
): Promise<KeyService | undefined> {
  if (wanted === undefined) return undefined;
  const read = async (reference: SecretReference): Promise<Secret> =>
    await readSecret(reference, { warn: (message) => log.warn("secret.exposed", { message }) }, signal);
  const ca = wanted.caFile === undefined ? undefined : await readAuthority(wanted.caFile);
  if (wanted.service === "vault-transit") return openKeyService({ ...wanted, token: await read(wanted.token), ca });
  return openKeyService({
    ...wanted,
    accessKeyId: await read(wanted.accessKeyId),
    secretAccessKey: await read(wanted.secretAccessKey),
    sessionToken: wanted.sessionToken === undefined ? undefined : await read(wanted.sessionToken),
    ...{ ca, clock },
  });
}

async function readAuthority(file: string): Promise<string> {
  return await readFile(file, "utf8").catch((error: unknown) => {
    throw new HoldfastError("SECRET_UNREADABLE", `the certificate ${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
    });
  });
}
