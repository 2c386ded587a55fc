/**
 * Two versions of one file, side by side: does the new one look as if it had been encrypted or destroyed? Entropy alone
 * cannot tell, for every compressed file is as random as an encrypted one. What tells is what the old version was and
 * the new one is not any more. Pure: facts in, a reason out.
 */
import { type Kind, isDense, isPlain, isSealed } from "../validators/kinds.js";
import { type Texture, newlyRandomBlocks } from "./texture.js";

/** What is known of one version. */
export interface Facts {
  readonly sizeBytes: number;
  readonly kind: Kind | undefined;
  readonly texture: Texture;
  /** Whether the structure of its kind holds; undefined when nobody can tell. */
  readonly isSound: boolean | undefined;
  /** Content that says of itself that it needs a key. */
  readonly isSealed: boolean;
}

/** Smaller files of no known kind are not judged, bytes: chance has too large a part in them. */
const UNKNOWN_BYTES_MIN = 1024;
const TEXT_BYTES_MIN = 64;
/** An old version as random as this, of no known kind, can only stay so. */
const OLD_RANDOM_SHARE_MAX = 0.5;
const RANDOM_SHARE_RISE = 0.25;
const CONSTANT_SHARE_MIN = 0.9;
const CONSTANT_SHARE_OLD_MAX = 0.5;
/** True when content is in good order by itself, whatever was there before: the old version need not be read. */
export function isOrdinary(now: Facts): boolean {
  if (now.isSealed || now.texture.constantShare >= CONSTANT_SHARE_MIN) return false;
  const { isText, isUtf8, isBase64, hasWildSpot } = now.texture;
  if (now.kind === undefined) return isText && !isBase64 && (isUtf8 || !hasWildSpot);
  if (now.isSound === false) return false;
  return isDense(now.kind);
}

/**
 * Why the new version looks encrypted or destroyed, in words that hold no content; undefined when it does not.
 * `randomOverwriteBytes` is what `texture.ts` says of the two.
 */
export function suspicionOfPair(before: Facts, now: Facts, randomOverwriteBytes: number): string | undefined {
  if (now.sizeBytes === 0 || !isJudgeable(before)) return undefined;
  const sealed = sealedOf(before, now);
  if (sealed !== undefined) return sealed;
  if (isKnownGood(now) && now.kind !== before.kind) return undefined; // another format is a wish, not an attack
  const lost = lostOf(before, now);
  if (lost !== undefined) return lost;
  const isProgram = before.kind !== undefined && isPlain(before.kind);
  if (isProgram && randomOverwriteBytes > 0) return `${String(randomOverwriteBytes)} bytes were overwritten with noise`;
  return randomOf(before, now);
}

/** What says of itself that nobody can read it any more. */
function sealedOf(before: Facts, now: Facts): string | undefined {
  if (before.texture.constantShare < CONSTANT_SHARE_OLD_MAX && now.texture.constantShare >= CONSTANT_SHARE_MIN)
    return "it consists of one repeated byte now";
  if (now.texture.isBase64 && !before.texture.isBase64) return "it became base64";
  return now.isSealed && !before.isSealed ? `it became encrypted (${now.kind ?? "unknown"})` : undefined;
}

function isJudgeable(before: Facts): boolean {
  if (before.isSealed) return false;
  if (before.kind !== undefined) return true;
  if (before.texture.isText) return before.sizeBytes >= TEXT_BYTES_MIN;
  return before.sizeBytes >= UNKNOWN_BYTES_MIN && before.texture.randomShare <= OLD_RANDOM_SHARE_MAX;
}

function isKnownGood({ kind, isSound }: Facts): boolean {
  return kind !== undefined && isSound !== false;
}

/** What it was and is not any more. */
function lostOf(before: Facts, now: Facts): string | undefined {
  if (before.kind === undefined) return before.texture.isText && !isTextStill(before, now) ? NO_TEXT : undefined;
  if (before.isSound === false) return undefined;
  if (now.kind === before.kind) return now.isSound === false ? `its ${before.kind} structure is broken` : undefined;
  const became = now.texture.isText && now.kind === undefined;
  return became ? undefined : `it was ${before.kind} and is of no known kind any more`;
}

const NO_TEXT = "it was text and is not any more";

function isTextStill({ texture: before }: Facts, { texture: now }: Facts): boolean {
  const isSpoilt = before.isUtf8 && !now.isUtf8 && !before.hasWildSpot && now.hasWildSpot;
  return now.isText && !isSpoilt;
}

function randomOf(before: Facts, now: Facts): string | undefined {
  if (before.kind !== undefined && isDense(before.kind)) return undefined;
  const blocks = newlyRandomBlocks(before.texture, now.texture);
  if (blocks === 0) return undefined;
  const isRise = now.texture.randomShare >= before.texture.randomShare + RANDOM_SHARE_RISE;
  return isRise ? `${String(blocks)} blocks became random` : undefined;
}

/** Whether a kind says of itself that it is encrypted. */
export function isSealedKind(kind: Kind | undefined): boolean {
  return kind !== undefined && isSealed(kind);
}
