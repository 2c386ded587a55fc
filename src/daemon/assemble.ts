/**
 * What a holdfast is made of over its open repository: the parts, the services and the router before them. It is loaded
 * by `launch.ts` while the repository opens, so nothing there imports it by name.
 */
import { join } from "node:path";
import { createRouter, type Router } from "../api/router.js";
import type { Services } from "../api/services.js";
import type { ResourceStack } from "../base/lifecycle.js";
import type { Configuration } from "../config/configuration.js";
import type { Repository } from "../engine/repository.js";
import { AuditLog } from "../telemetry/audit.js";
import { RequestAudit, auditEvents } from "./audit-trail.js";
import { compose } from "./compose.js";
import { Operation } from "./operation.js";
import type { Ground, Parts } from "./parts.js";
import { alertService } from "./services/alerts.js";
import { auditService } from "./services/audit.js";
import { backupService } from "./services/backups.js";
import { browseService } from "./services/browse.js";
import { cbtService } from "./services/cbt.js";
import { withRealPaths } from "./services/real-paths.js";
import { recoveryService } from "./services/recovery.js";
import { repositoryService } from "./services/repository.js";
import { retentionService } from "./services/retention.js";
import { systemService } from "./services/system.js";
import { upkeepService } from "./services/upkeep.js";
import { watchService } from "./services/watch.js";

export interface Assembled {
  readonly parts: Parts;
  readonly operation: Operation;
  readonly services: Services;
  readonly router: Router;
}

export interface AssemblyOrder {
  readonly repository: Repository;
  /** Loads the configuration as it was loaded at the start. */
  readonly load: () => Promise<Configuration>;
}

/** Builds everything; what it opens is in `owner`. Nothing watches, heals or tells yet. */
export async function assemble(
  ground: Ground,
  { repository, load }: AssemblyOrder,
  owner: ResourceStack,
): Promise<Assembled> {
  const { configuration, clock, metrics, version } = ground;
  // Before the rest, so that it is closed behind it: how jobs are cut short at the end is recorded, too.
  const audit = owner.use(new AuditLog({ folder: join(configuration.stateDir, "audit"), clock, log: metrics.log }));
  const { parts, plan } = await compose(ground, repository, owner);
  const operation = owner.use(await Operation.prepare(parts, plan));
  auditEvents(parts.bus, audit);
  const services = servicesOf(parts, { operation, audit }, load);
  const requests = new RequestAudit(audit, clock, parts.jobs);
  const onWrite = requests.note.bind(requests);
  const router = await createRouter({ services, observer: metrics, clock, version, onWrite });
  return { parts, operation, services, router };
}

function servicesOf(
  parts: Parts,
  { operation, audit }: { readonly operation: Operation; readonly audit: AuditLog },
  load: () => Promise<Configuration>,
): Services {
  const services: Services = {
    backups: backupService(parts, operation),
    browse: browseService(parts),
    repository: repositoryService(parts, operation),
    retention: retentionService(parts),
    upkeep: upkeepService(parts),
    cbt: cbtService(parts),
    watch: watchService(parts, operation),
    recovery: recoveryService(parts, operation),
    alerts: alertService(parts),
    audit: auditService(audit),
    system: systemService(parts, operation, load),
  };
  return withRealPaths(services, parts);
}
