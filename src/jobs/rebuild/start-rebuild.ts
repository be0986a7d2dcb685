import type { Clock } from '../../base/clock.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Job } from '../../catalog/jobs.ts';
import { confirmRepository, type Repository } from '../../repository/open-repository.ts';
import { machineFolders, readMachine } from '../../repository/read-repository.ts';
import { endOf } from '../end-of-job.ts';
import type { JobEngine } from '../job-engine.ts';
import type { JobContext } from '../job-work.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { ResourceLocks } from '../resource-locks.ts';
import { shareChain } from '../share-chain.ts';
import { type Differences, rebuildMachine, removeRows } from './rebuild-machine.ts';

export interface RebuildDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly repositories: Repositories;
}

/** Ids or paths that the result lists; of the rest only the number. */
const MAX_TOLD = 100;

/** Adds up the differences of all machines. */
class Sum {
  machines = 0;
  readonly #counts: Record<keyof Differences, number> = {
    added: 0,
    updated: 0,
    removed: 0,
    clashes: 0,
    unreadable: 0,
  };
  readonly #told: Record<keyof Differences, string[]> = {
    added: [],
    updated: [],
    removed: [],
    clashes: [],
    unreadable: [],
  };

  add(found: Partial<Differences>): void {
    for (const kind of ['added', 'updated', 'removed', 'clashes', 'unreadable'] as const) {
      const ids = found[kind] ?? [];
      this.#counts[kind] += ids.length;
      this.#told[kind].push(...ids.slice(0, MAX_TOLD - this.#told[kind].length));
    }
  }

  get counts(): Readonly<Record<keyof Differences, number>> {
    return this.#counts;
  }

  result(): Record<string, unknown> {
    return { machines: this.machines, ...this.#counts, names: this.#told };
  }
}

/**
 * Starts making the catalogue's rows of a repository anew from its files alone. Rows whose manifest is gone are
 * removed here and nowhere else, and are told.
 * @throws REPOSITORY_UNKNOWN, REPOSITORY_BUSY
 */
export function startRebuild(deps: RebuildDeps, name: string): Job {
  const repository = deps.repositories.byName(name);
  const jobId = deps.engine.newId();
  const busy = (holder: string) => new SendenseError('REPOSITORY_BUSY', { repository: name, holder });
  const release = deps.locks.acquire(jobId, [
    { resource: `repository:${repository.id}`, exclusive: false, busy },
    { resource: `rebuild:${repository.id}`, exclusive: true, busy },
  ]);
  const sum = new Sum();
  try {
    return deps.engine.submit(jobId, {
      kind: 'rebuild',
      vmName: null,
      backupId: null,
      request: { repository: name },
      run: (context) => runRebuild(deps, repository, sum, context),
      ended: (job) => {
        release();
        const { added, updated, removed, unreadable } = sum.counts;
        const end = endOf(job, 'rebuild', {
          completed: `The catalogue of ${name} was made anew: ${added} backups added, ${updated} updated, ${removed} removed, ${unreadable} documents unreadable.`,
          cancelled: `Rebuilding the catalogue of ${name} was cancelled; machines so far are as their files say.`,
          failed: `Rebuilding the catalogue of ${name} failed: `,
        });
        deps.catalog.events.add({ ...end, subject: name, data: { job_id: job.id, ...sum.result() } });
      },
    });
  } catch (error) {
    release();
    throw error;
  }
}

async function runRebuild(
  deps: RebuildDeps,
  repository: Repository,
  sum: Sum,
  context: JobContext,
): Promise<void> {
  const { catalog, clock, locks } = deps;
  const { signal, jobId } = context;
  context.setPhase('reading');
  await confirmRepository(repository);
  const folders = await machineFolders(repository.root);
  for (const [index, vmUuid] of folders.entries()) {
    if (signal.aborted) throw new SendenseError('CANCELLED');
    const vm = catalog.vms.byUuid(vmUuid);
    // nobody deletes between the look at the files and the change of the rows
    const share = vm ? await shareChain(locks, { holder: jobId, vm, repository, signal }) : null;
    try {
      sum.add(
        await rebuildMachine(catalog, repository, await readMachine(repository.root, vmUuid), clock.now()),
      );
    } finally {
      share?.release();
    }
    sum.machines = index + 1;
    context.setResult(sum.result());
  }
  await confirmRepository(repository);
  for (const vm of catalog.vms.all())
    if (!folders.includes(vm.vmUuid))
      sum.add({ removed: removeRows(catalog, repository, vm, new Set(), clock.now()) });
  context.setResult(sum.result());
  const { removed, unreadable, clashes } = sum.counts;
  if (removed > 0)
    context.warn(`${removed} backups were removed from the catalogue: their manifests are gone.`);
  if (unreadable > 0)
    context.warn(`${unreadable} documents cannot be read; rows that may belong to them were left.`);
  if (clashes > 0) context.warn(`${clashes} backups are not listed: their ids are taken by other backups.`);
}
