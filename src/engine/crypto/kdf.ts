/** Key derivation: HKDF for keys from keys, PBKDF2 and scrypt for keys from passwords. */
import { hkdfSync, pbkdf2, scrypt } from "node:crypto";
import { HoldfastError } from "../../base/errors.js";

/** Length of every key here, bytes. */
export const KEY_BYTES = 32;

/** How a password becomes a key. Bounded when read from a slot, so that a hostile slot cannot eat the machine. */
export type PasswordKdf =
  | { readonly name: "scrypt"; readonly costLog2: number; readonly blockSize: number; readonly parallel: number }
  | { readonly name: "pbkdf2-sha256"; readonly iterations: number };

/** 128 MiB and about 0.3 s. */
export const DEFAULT_PASSWORD_KDF: PasswordKdf = { name: "scrypt", costLog2: 17, blockSize: 8, parallel: 1 };
export const PBKDF2_KDF: PasswordKdf = { name: "pbkdf2-sha256", iterations: 600_000 };

const SCRYPT_MEMORY_BYTES_MAX = 2 ** 30;
const PBKDF2_ITERATIONS_MAX = 10_000_000;

/** A key for one purpose; `label` separates purposes and is part of the format. */
export function deriveKey(key: Uint8Array, salt: Uint8Array, label: string): Buffer {
  return Buffer.from(hkdfSync("sha256", key, salt, Buffer.from(label, "ascii"), KEY_BYTES));
}

/** Stretches a password. Throws LIMIT_REACHED when the parameters ask for more than this machine should give. */
export async function stretchPassword(password: string, salt: Uint8Array, kdf: PasswordKdf): Promise<Buffer> {
  const bytes = Buffer.from(password.normalize("NFKC"), "utf8");
  if (kdf.name === "pbkdf2-sha256") return await pbkdf2Key(bytes, salt, kdf.iterations);
  const cost = 2 ** kdf.costLog2;
  const memoryBytes = 128 * cost * kdf.blockSize;
  if (memoryBytes * kdf.parallel > SCRYPT_MEMORY_BYTES_MAX || kdf.parallel > 16) throw tooMuch();
  const options = { N: cost, r: kdf.blockSize, p: kdf.parallel, maxmem: memoryBytes * 2 };
  return await new Promise<Buffer>((resolve, reject) => {
    scrypt(bytes, salt, KEY_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

async function pbkdf2Key(password: Buffer, salt: Uint8Array, iterations: number): Promise<Buffer> {
  if (iterations > PBKDF2_ITERATIONS_MAX) throw tooMuch();
  return await new Promise<Buffer>((resolve, reject) => {
    pbkdf2(password, salt, iterations, KEY_BYTES, "sha256", (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

function tooMuch(): HoldfastError {
  return new HoldfastError("LIMIT_REACHED", "a key slot asks for too much work to open its password");
}
