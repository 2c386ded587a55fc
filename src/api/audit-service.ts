/** What the API can ask about the audit log: its entries, and whether its chain is whole. A port beside `services.ts`. */
export interface AuditDocument {
  readonly seq: number;
  readonly at: string;
  readonly action: string;
  readonly by: string;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly prev: string;
  readonly hash: string;
}
export interface AuditVerificationDocument {
  readonly entries: number;
  readonly first: { readonly seq: number; readonly at: string } | null;
  readonly last: { readonly seq: number; readonly at: string; readonly hash: string } | null;
  /** Empty: the chain is whole from the first entry that is kept. */
  readonly problems: readonly string[];
}
export interface AuditService {
  /** Newest first. */
  entries(): AsyncIterable<AuditDocument>;
  verify(signal: AbortSignal): Promise<AuditVerificationDocument>;
}
