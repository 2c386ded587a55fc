/** AES-256-GCM: sealing and opening with the tag (16 bytes) behind the ciphertext. */
import { createCipheriv, createDecipheriv } from "node:crypto";

export const TAG_BYTES = 16;
export const NONCE_BYTES = 12;

/** What one seal is bound to. A nonce must never be used twice with one key. */
export interface SealContext {
  readonly key: Uint8Array;
  readonly nonce: Uint8Array;
  /** Bytes that are not stored but must be the same when it is opened. */
  readonly bound: Uint8Array;
}

/** Ciphertext and tag as parts, so that the caller can place them without another copy. */
export function sealParts(plain: Uint8Array, context: SealContext): readonly Buffer[] {
  const cipher = createCipheriv("aes-256-gcm", context.key, context.nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(context.bound);
  const body = cipher.update(plain);
  cipher.final();
  return [body, cipher.getAuthTag()];
}

/** The plain bytes, or undefined when the seal does not fit: wrong key, or one changed bit anywhere. */
export function openSealed(sealed: Uint8Array, context: SealContext): Buffer | undefined {
  if (sealed.length < TAG_BYTES) return undefined;
  const end = sealed.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", context.key, context.nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(context.bound);
  decipher.setAuthTag(sealed.subarray(end));
  const plain = decipher.update(sealed.subarray(0, end));
  try {
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
}
