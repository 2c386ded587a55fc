/**
 * The port to a service that wraps keys and lets nobody have its own: AWS KMS, HashiCorp Vault's transit engine. What a
 * service wrapped lies in the store, in a key slot, so the store and the right to use the service open the repository.
 */

export const KEY_SERVICE_NAMES = ["aws-kms", "vault-transit"] as const;
export type KeyServiceName = (typeof KEY_SERVICE_NAMES)[number];

/** Both calls may be repeated. Throw KEY_SERVICE_FAILED. */
export interface KeyService {
  readonly name: KeyServiceName;
  /** Wraps a few bytes; `context` is what they are for, and must be the same when they are unwrapped. */
  wrap(plain: Uint8Array, context: string, signal: AbortSignal): Promise<string>;
  unwrap(wrapped: string, context: string, signal: AbortSignal): Promise<Buffer>;
}
