/**
 * The recovery key as people write it down: Crockford's base32 in eight groups of five, 32 characters for 160 random
 * bits and a last group for 40 bits of their SHA-256, so that a slip of the pen is told from a wrong key. Reading is
 * forgiving: case, spaces and dashes do not matter, O is 0, I and L are 1.
 */
import { createHash } from "node:crypto";
import { HoldfastError } from "../../base/errors.js";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SECRET_BYTES = 20;
const CHECK_BYTES = 5;
const GROUP_CHARACTERS = 5;
const CHARACTER_BITS = 5n;
const TOTAL_CHARACTERS = ((SECRET_BYTES + CHECK_BYTES) * 8) / Number(CHARACTER_BITS);

/** The text of 20 random bytes: eight groups of five characters with dashes. */
export function encodeRecoveryKey(secret: Uint8Array): string {
  let rest = BigInt(`0x${Buffer.concat([secret, checkOf(secret)]).toString("hex")}`);
  let text = "";
  for (let index = 0; index < TOTAL_CHARACTERS; index += 1) {
    text = (ALPHABET[Number(rest % 32n)] ?? "") + text;
    rest >>= CHARACTER_BITS;
  }
  return (text.match(new RegExp(`.{${GROUP_CHARACTERS}}`, "g")) ?? []).join("-");
}

/** The 20 bytes of a recovery key. Throws REPO_KEY_WRONG with a hint when it was copied wrongly. */
export function parseRecoveryKey(text: string): Buffer {
  const plain = text.toUpperCase().replace(/[\s-]/g, "").replace(/O/g, "0").replace(/[IL]/g, "1");
  if (plain.length !== TOTAL_CHARACTERS) throw miscopied(`it has ${plain.length} characters, not ${TOTAL_CHARACTERS}`);
  let value = 0n;
  for (const character of plain) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) throw miscopied("it has a character that no recovery key has");
    value = (value << CHARACTER_BITS) | BigInt(digit);
  }
  const bytes = Buffer.from(value.toString(16).padStart((SECRET_BYTES + CHECK_BYTES) * 2, "0"), "hex");
  const secret = bytes.subarray(0, SECRET_BYTES);
  if (!checkOf(secret).equals(bytes.subarray(SECRET_BYTES))) throw miscopied("its last group does not fit the others");
  return secret;
}

function checkOf(secret: Uint8Array): Buffer {
  return createHash("sha256").update("holdfast recovery key").update(secret).digest().subarray(0, CHECK_BYTES);
}

function miscopied(why: string): HoldfastError {
  return new HoldfastError("REPO_KEY_WRONG", `the recovery key was not copied rightly: ${why}`, {
    hint: "Compare it with the paper: eight groups of five letters and digits.",
  });
}
