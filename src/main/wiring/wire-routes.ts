import type { Route } from '../../api/route.ts';
import { tokenRoutes } from '../../api/routes/access/token-routes.ts';
import { backupRoutes } from '../../api/routes/backups/backup-routes.ts';
import { chainRoutes } from '../../api/routes/backups/chain-routes.ts';
import { copyRoutes } from '../../api/routes/backups/copy-routes.ts';
import { verifyRoutes } from '../../api/routes/backups/verify-routes.ts';
import { agentRoutes } from '../../api/routes/machines/agent-routes.ts';
import { vmRoutes } from '../../api/routes/machines/vm-routes.ts';
import { mirrorRoutes } from '../../api/routes/mirrors/mirror-routes.ts';
import { mirrorWorkRoutes } from '../../api/routes/mirrors/mirror-work-routes.ts';
import { coverageRoutes } from '../../api/routes/policies/coverage-routes.ts';
import { policyRoutes } from '../../api/routes/policies/policy-routes.ts';
import { scheduleRoutes } from '../../api/routes/policies/schedule-routes.ts';
import { repositoryRoutes } from '../../api/routes/repositories/repository-routes.ts';
import { bootTestRoutes } from '../../api/routes/restore/boot-test-routes.ts';
import { browseRoutes } from '../../api/routes/restore/browse-routes.ts';
import { libvirtRestoreRoutes } from '../../api/routes/restore/libvirt-restore-routes.ts';
import { liveRoutes } from '../../api/routes/restore/live-routes.ts';
import { restoreRoutes } from '../../api/routes/restore/restore-routes.ts';
import { wholeDiskRoutes } from '../../api/routes/restore/whole-disk-routes.ts';
import { jobRoutes } from '../../api/routes/system/job-routes.ts';

type DepsOf<T extends (deps: never) => Route[]> = Parameters<T>[0];

/** What the routes of each subject need. */
export interface RouteWiring {
  readonly backups: DepsOf<typeof backupRoutes>;
  readonly chains: DepsOf<typeof chainRoutes>;
  readonly copies: DepsOf<typeof copyRoutes>;
  readonly vms: DepsOf<typeof vmRoutes>;
  readonly agents: DepsOf<typeof agentRoutes>;
  readonly jobs: DepsOf<typeof jobRoutes>;
  readonly mounts: DepsOf<typeof restoreRoutes>;
  readonly restore: DepsOf<typeof wholeDiskRoutes>;
  readonly libvirtRestore: DepsOf<typeof libvirtRestoreRoutes>;
  readonly live: DepsOf<typeof liveRoutes>;
  readonly browse: DepsOf<typeof browseRoutes>;
  readonly bootTests: DepsOf<typeof bootTestRoutes>;
  readonly repositories: DepsOf<typeof repositoryRoutes>;
  readonly verify: DepsOf<typeof verifyRoutes>;
  readonly policies: DepsOf<typeof policyRoutes> & DepsOf<typeof scheduleRoutes>;
  readonly coverage: DepsOf<typeof coverageRoutes>;
  readonly mirrors: DepsOf<typeof mirrorRoutes> & DepsOf<typeof mirrorWorkRoutes>;
  readonly tokens: DepsOf<typeof tokenRoutes>;
  readonly others: readonly Route[];
}

/** All routes of the API. Where two could match, the first one is it. */
export const wireRoutes = (wiring: RouteWiring): Route[] => [
  ...backupRoutes(wiring.backups),
  ...chainRoutes(wiring.chains),
  ...copyRoutes(wiring.copies),
  ...vmRoutes(wiring.vms),
  ...agentRoutes(wiring.agents),
  ...jobRoutes(wiring.jobs),
  ...restoreRoutes(wiring.mounts),
  ...wholeDiskRoutes(wiring.restore),
  ...libvirtRestoreRoutes(wiring.libvirtRestore),
  ...liveRoutes(wiring.live),
  ...browseRoutes(wiring.browse),
  ...bootTestRoutes(wiring.bootTests),
  ...repositoryRoutes(wiring.repositories),
  ...verifyRoutes(wiring.verify),
  ...policyRoutes(wiring.policies),
  ...scheduleRoutes(wiring.policies),
  ...coverageRoutes(wiring.coverage),
  ...mirrorRoutes(wiring.mirrors),
  ...mirrorWorkRoutes(wiring.mirrors),
  ...tokenRoutes(wiring.tokens),
  ...wiring.others,
];
