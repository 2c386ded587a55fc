/** Opens the key service that somebody configured. */
import type { KeyService } from "./key-service.js";
import { type AwsKmsOptions, awsKms } from "./key-services/aws-kms.js";
import { type VaultTransitOptions, vaultTransit } from "./key-services/vault-transit.js";

export type KeyServiceOptions =
  ({ readonly service: "aws-kms" } & AwsKmsOptions) | ({ readonly service: "vault-transit" } & VaultTransitOptions);

/** Opens a key service; nothing is asked of it yet. Throws USAGE for an address without TLS. */
export function openKeyService(options: KeyServiceOptions): KeyService {
  return options.service === "aws-kms" ? awsKms(options) : vaultTransit(options);
}
