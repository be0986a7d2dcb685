import { SendenseError } from '../../base/sendense-error.ts';
import type { Job } from '../../catalog/jobs.ts';
import { endOf } from '../end-of-job.ts';
import { type FetchDeps, fetchPoint } from './fetch-point.ts';
import { findRecord, type MirrorDeps } from './mirror-deps.ts';
import { findMirrored } from './mirror-points.ts';

/**
 * Starts to bring a restore point from a mirror into a repository, each disk as a full. The machine's next backup there
 * goes on from it.
 * @throws MIRROR_UNKNOWN, MIRROR_POINT_UNKNOWN, MIRROR_INVALID when it is here already, REPOSITORY_…
 */
export async function startFetch(
  deps: MirrorDeps & FetchDeps,
  name: string,
  wanted: string,
  repositoryName: string,
): Promise<Job> {
  const { catalog, engine, locks } = deps;
  const backup = findMirrored(deps, findRecord(deps, name), wanted);
  const repository = deps.repositories.byName(repositoryName);
  const id = backup.backupId;
  if (catalog.backups.byId(id)?.status === 'completed')
    throw new SendenseError('MIRROR_INVALID', { detail: `${id} is here already` });
  const jobId = engine.newId();
  const release = await locks.acquireSoon(jobId, [
    {
      resource: `repository:${repository.id}`,
      exclusive: false,
      busy: (holder) => new SendenseError('REPOSITORY_BUSY', { repository: repository.name, holder }),
    },
    {
      resource: `backup:${id}`,
      exclusive: true,
      busy: (holder) => new SendenseError('BACKUP_BUSY', { backup: id, holder }),
    },
  ]);
  let contextId: string | null = null;
  try {
    return engine.submit(jobId, {
      kind: 'mirror-fetch',
      isAside: true,
      vmName: backup.vmName,
      backupId: id,
      request: { mirror: name, repository: repository.name, repository_id: repository.id },
      run: async (context) => {
        contextId = await fetchPoint(deps, { mirror: name, backup, repository }, context);
      },
      ended: (job) => {
        release();
        catalog.events.add({
          ...endOf(job, 'mirror.fetch', {
            completed: `${id} is in the repository ${repository.name} again.`,
            cancelled: `Fetching ${id} from ${name} was cancelled.`,
            failed: `Fetching ${id} from ${name} failed: `,
          }),
          subject: backup.vmName,
          data: { job_id: job.id, mirror: name, repository: repository.name },
        });
        if (contextId !== null) deps.chainsChanged(contextId, repository.id);
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}
