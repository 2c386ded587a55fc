/**
 * What the API can ask about retention: the policies that say which backups stay, and what they would do now. A port of
 * its own beside `services.ts`.
 */

/** How many newest periods of each rule keep one backup; whatever is left out is as the configuration's `rotation` has it. */
export interface PolicyRules {
  readonly last?: number;
  readonly hourly?: number;
  readonly daily?: number;
  readonly weekly?: number;
  readonly monthly?: number;
  readonly yearly?: number;
  /** Never fewer than this stay; at least 1. */
  readonly min_copies?: number;
  /** All younger ones stay; 0: no such rule. */
  readonly within_seconds?: number;
}
export interface PolicyRequest extends PolicyRules {
  /** Names of the sources that it is for; each has one policy at most. */
  readonly sources: readonly string[];
}
export interface PolicyDocument extends Required<PolicyRules> {
  /** `default` is the configuration's `rotation`. */
  readonly id: string;
  /** Empty for `default`: it is for all sources that no other policy names. */
  readonly sources: readonly string[];
  readonly from_configuration: boolean;
}
/** What a cleanup would do with backups now; the chunks that would go are counted by `cleanup` with `dry_run`. */
export interface RetentionPreview {
  readonly kept: readonly { readonly backup_id: string; readonly kept_by: readonly string[] }[];
  /** Oldest first. */
  readonly removed: readonly string[];
  /** Why nothing would be removed though the rules would; null when nothing stands in the way. */
  readonly refused_because: string | null;
}

/** Policies hold from the next cleanup on. Errors: POLICY_NOT_FOUND, POLICY_EXISTS, SOURCE_NOT_FOUND, USAGE for `default`. */
export interface RetentionService {
  policies(): Promise<readonly PolicyDocument[]>;
  policy(id: string): Promise<PolicyDocument>;
  create(id: string, request: PolicyRequest): Promise<PolicyDocument>;
  replace(id: string, request: PolicyRequest): Promise<PolicyDocument>;
  /** Its sources are under `default` again. */
  remove(id: string): Promise<PolicyDocument>;
  preview(): Promise<RetentionPreview>;
}
