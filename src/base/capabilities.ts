/** What this process may do beside what its user may: the kernel's capabilities(7). */
import { readFileSync } from "node:fs";

/** Bits of the Linux ABI. */
export const CAPABILITY = { CAP_CHOWN: 0, CAP_DAC_OVERRIDE: 1, CAP_FOWNER: 3, CAP_SYS_ADMIN: 21 } as const;
export type Capability = keyof typeof CAPABILITY;

/** Which of them a process does not hold, by the text of its /proc/PID/status; undefined: it does not tell. */
export function missingCapabilities(status: string, wanted: readonly Capability[]): readonly Capability[] | undefined {
  const effective = /^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1];
  if (effective === undefined) return undefined;
  const held = BigInt(`0x${effective}`);
  return wanted.filter((name) => ((held >> BigInt(CAPABILITY[name])) & 1n) === 0n);
}

/** True when this process may do what belongs to the capability. */
export function holdsCapability(name: Capability): boolean {
  try {
    return missingCapabilities(readFileSync("/proc/self/status", "latin1"), [name])?.length === 0;
  } catch {
    return process.geteuid?.() === 0; // no /proc
  }
}
