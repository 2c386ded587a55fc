/**
 * Wall time as evidence of how long ago something was. A clock that is set forward, or a machine that slept, lets hours
 * go by on the wall in which nothing ran; the steady time shows it. For a while after such a jump the wall is taken as
 * it would be without it, so that a time stamped before the jump does not look long ago.
 */
import type { Clock } from "./clock.js";

/** What one moment told: how far the wall is ahead of the steady time. */
interface Sample {
  readonly steadyMs: number;
  readonly aheadMs: number;
}

/** A wall that is set right gently gets ahead by less than this between two samples, ms. */
const SLEW_MS = 10;
/** More jumps in one window than this are taken for one, the earliest. */
const SAMPLES_MAX = 64;

/** By clock, oldest first and each further ahead than the one before: the first says what the wall must not be beyond. */
const samplesOf = new WeakMap<Clock, Sample[]>();

/**
 * The wall time now, without the jumps forward that were noticed within `windowMs` of steady time. A jump is noticed by
 * the first call after it, and none before the first call at all.
 */
export function unjumpedNowMs(clock: Clock, windowMs: number): number {
  const nowMs = clock.nowMs();
  const steadyMs = clock.monotonicMs();
  const aheadMs = nowMs - steadyMs;
  const samples = samplesOf.get(clock) ?? [];
  samplesOf.set(clock, samples);
  const isAhead = (sample: Sample | undefined): boolean => sample !== undefined && sample.aheadMs > aheadMs + SLEW_MS;
  while (isAhead(samples.at(-1))) samples.pop();
  if (aheadMs - (samples.at(-1)?.aheadMs ?? Number.NEGATIVE_INFINITY) > SLEW_MS) samples.push({ steadyMs, aheadMs });
  // A sample counts until the one after it is old enough: that jump may have been any time before it was noticed.
  for (let next = samples[1]; next !== undefined && steadyMs - next.steadyMs >= windowMs; next = samples[1])
    samples.shift();
  if (samples.length > SAMPLES_MAX) samples.splice(1, 1);
  const jumpedMs = aheadMs - (samples[0]?.aheadMs ?? aheadMs);
  return jumpedMs <= SLEW_MS ? nowMs : Math.floor(nowMs - jumpedMs);
}
