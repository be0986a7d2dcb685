import type { Clock } from '../../base/clock.ts';
import type { Config } from '../../base/config/config-schema.ts';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf } from '../../base/sendense-error.ts';
import type { Source } from '../../capture/source.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import { machineRef } from '../../jobs/backup/plan/machine-ref.ts';
import { resumeBackup, type StartBackupDeps } from '../../jobs/backup/start-backup.ts';
import { giveUpBackup, type RecoverDeps, type ResumableJob, recoverJobs } from '../../jobs/recover-jobs.ts';
import { RepositoryKeeper } from '../../jobs/repository/repository-keeper.ts';
import { clearLeftBehind } from '../../jobs/repository/scan/unpublished.ts';
import { ResourceLocks } from '../../jobs/resource-locks.ts';
import type { Repository } from '../../repository/open-repository.ts';
import { settlingDeps } from './wire-chains.ts';

interface RecoveryWiring {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly config: Config;
  readonly libvirt: Source;
  readonly logger: Logger;
  readonly paths: HomePaths;
  readonly onStep: (step: string) => void;
}

export interface Recovered {
  readonly locks: ResourceLocks;
  readonly keeper: RepositoryKeeper;
  /** Backups that this daemon goes on with. */
  readonly resumable: readonly ResumableJob[];
  /** Takes what they hold; to be called before anybody else can ask for it. */
  goOn(backups: StartBackupDeps): Promise<void>;
  /** To be called once: what else is done with a repository that is back. */
  whenBack(act: () => Promise<void>): void;
}

/** Opens the repositories and ends what an earlier daemon left unfinished in them. */
export async function wireRecovery(wiring: RecoveryWiring): Promise<Recovered> {
  const { catalog, clock, config, libvirt, logger, paths } = wiring;
  const locks = new ResourceLocks();
  let backAgain = async (_repository: Repository) => {};
  const keeper = new RepositoryKeeper({
    catalog,
    clock,
    locks,
    home: paths.home,
    onBack: (repository) => backAgain(repository),
    settling: settlingDeps(paths, logger, wiring.onStep),
  });
  await keeper.openAll(paths.defaultRepositoryFolder);
  const { repositories } = keeper;
  const recovery: RecoverDeps = {
    catalog,
    cleanUpSource: (vm, leftover) => libvirt.cleanUp(machineRef(vm), leftover),
    clock,
    logger,
    repositories,
    hookTimeoutMs: config.jobs.hook_timeout_s * 1000,
    hasAgents: config.agents.listen !== '',
  };
  const resumable = await recoverJobs(recovery);
  for (const repository of repositories.all()) await clearLeftBehind({ catalog, clock }, repository);
  return {
    ...{ locks, keeper, resumable },
    goOn: async (backups) => {
      for (const { job, resumption } of resumable) {
        await resumeBackup(backups, job, resumption).catch(async (error: unknown) => {
          logger.error({ job: job.id, error: messageOf(error) }, 'a backup cannot be gone on with');
          await giveUpBackup(recovery, job);
        });
      }
    },
    whenBack: (act) => {
      backAgain = async (repository) => {
        await clearLeftBehind({ catalog, clock }, repository);
        await act();
      };
    },
  };
}
