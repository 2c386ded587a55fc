/**
 * Files that a good configuration names and that are not there: schemas, without which nothing is checked, and secrets,
 * without which the daemon does not start. They may come later, or be seen by the daemon's account only, so this warns.
 */
import { access } from "node:fs/promises";
import { errnoOf } from "../base/errors.js";
import type { Configuration, SecretReference } from "./configuration.js";

/** One line for each file that is not there. */
export async function missingFileWarnings(configuration: Configuration): Promise<readonly string[]> {
  const warnings: string[] = [];
  for (const { name, validate } of configuration.sources) {
    for (const { schemaFile } of validate) {
      if (schemaFile !== undefined && (await isMissing(schemaFile)))
        warnings.push(`the schema ${schemaFile} of source ${name} is not there: nothing is checked by it`);
    }
  }
  for (const secret of secretsOf(configuration)) {
    if (secret !== undefined && "file" in secret && (await isMissing(secret.file)))
      warnings.push(`the secret ${secret.file} is not there: the daemon does not start without it`);
  }
  return warnings;
}

function secretsOf({ alerts, encryption, metrics }: Configuration): readonly (SecretReference | undefined)[] {
  const ofChannels = alerts.channels.map((channel) => (channel.kind === "slack" ? channel.webhook : channel.password));
  const { key, keyService } = encryption;
  const ofService =
    keyService === undefined
      ? []
      : keyService.service === "vault-transit"
        ? [keyService.token]
        : [keyService.accessKeyId, keyService.secretAccessKey, keyService.sessionToken];
  return [...ofChannels, key, ...ofService, metrics.token];
}

async function isMissing(file: string): Promise<boolean> {
  return await access(file).then(
    () => false,
    (error: unknown) => errnoOf(error) === "ENOENT",
  );
}
