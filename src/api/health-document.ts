/** What `health` answers: the verdict, the exit code of the command, and each check behind it. */

/** `failing`: protection is not given; `breached`: a target is missed; `attention`: a person should look, no more. */
export type HealthLevel = "failing" | "breached" | "attention";

export interface HealthCheck {
  readonly name: string;
  /** Whether nothing was found. */
  readonly ok: boolean;
  /** The worst of what was found. */
  readonly level: "ok" | HealthLevel;
  readonly detail: string;
}

export interface HealthDocument {
  /** Exit code of `holdfast health`: 1 where a check is failing, 5 where one is breached, else 0. */
  readonly exit_code: 0 | 1 | 5;
  readonly state: "healthy" | "attention" | "failing";
  readonly checks: readonly HealthCheck[];
}
