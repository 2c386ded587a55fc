/** Retention over the API: the policies, and what they would do now. */
import { HoldfastError } from "../../base/errors.js";
import type { PolicyDocument, PolicyRequest, PolicyRules, RetentionService } from "../../api/retention-service.js";
import type { RetentionPolicy } from "../../policy/retention.js";
import { keptDocuments, previewCleanup, standardPolicy } from "../cleanup-work.js";
import type { Parts } from "../parts.js";
import { DEFAULT_POLICY_ID, type KeptPolicy, type PolicyOverrides } from "../retention-book.js";

export function retentionService(parts: Parts): RetentionService {
  const { retention } = parts;
  const needDaemon = (): void => {
    if (!parts.ground.isDaemon) throw new HoldfastError("DAEMON_UNREACHABLE", "this needs a running daemon");
  };
  const find = (id: string): PolicyDocument => {
    if (id === DEFAULT_POLICY_ID) return document(parts, undefined);
    const found = retention.find(id);
    if (found === undefined) throw new HoldfastError("POLICY_NOT_FOUND", `no retention policy is called "${id}"`);
    return document(parts, found);
  };
  return {
    policies: async () =>
      await Promise.resolve([document(parts, undefined), ...retention.all().map((policy) => document(parts, policy))]),
    policy: async (id) => await Promise.resolve().then(() => find(id)),
    async create(id, request) {
      needDaemon();
      await retention.add(await kept(parts, id, request));
      return find(id);
    },
    async replace(id, request) {
      needDaemon();
      await retention.replace(await kept(parts, id, request));
      return find(id);
    },
    async remove(id) {
      needDaemon();
      const removed = find(id);
      await retention.remove(id);
      return removed;
    },
    async preview() {
      const plan = await previewCleanup(parts);
      return {
        kept: keptDocuments(plan.kept),
        removed: plan.remove,
        refused_because: plan.refusedBecause ?? null,
      };
    },
  };
}

/** Throws SOURCE_NOT_FOUND for a source that is neither protected nor in the store: a mistyped name would keep nothing. */
async function kept({ book, repository }: Parts, id: string, request: PolicyRequest): Promise<KeptPolicy> {
  const { sources, ...rules } = request;
  const stored = new Set(await repository.sourceNames());
  const unknown = sources.find((name) => book.find(name) === undefined && !stored.has(name));
  if (unknown !== undefined) throw new HoldfastError("SOURCE_NOT_FOUND", `no source is called "${unknown}"`);
  return { id, sources, rules: overrides(rules) };
}

function overrides({ min_copies: minCopies, within_seconds: within, ...periods }: PolicyRules): PolicyOverrides {
  return {
    ...periods,
    ...(minCopies === undefined ? {} : { minCopies }),
    ...(within === undefined ? {} : { withinMs: within * 1000 }),
  };
}

function document({ settings }: Parts, policy: KeptPolicy | undefined): PolicyDocument {
  const { minCopies, withinMs, ...periods }: RetentionPolicy = {
    ...standardPolicy(settings.current),
    ...policy?.rules,
  };
  return {
    id: policy?.id ?? DEFAULT_POLICY_ID,
    sources: policy?.sources ?? [],
    ...periods,
    min_copies: minCopies,
    within_seconds: withinMs / 1000,
    from_configuration: policy === undefined,
  };
}
