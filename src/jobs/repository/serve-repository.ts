import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalog } from '../../catalog/catalog.ts';
import type { OpenRepository, Repositories } from './repositories.ts';
import { beginScan, type ScanDeps } from './scan/scan-repository.ts';

/** Who opens a repository waits so long for the look through it; a large one goes on in the background. */
const PATIENCE_MS = 300;
/** And so long when the catalogue knows nothing of it, as after its loss. */
const FIRST_PATIENCE_MS = 5_000;

/** Kinds of jobs that leave no half-changed layer of others behind. */
const changesNoLayers: ReadonlySet<string> = new Set(['backup', 'restore-disk', 'restore-vm', 'keep-live']);

/** Machines with work on their layers that a dead daemon left; the empty name stands for any. */
export function machinesInterrupted(catalog: Catalog): Set<string> {
  return new Set(
    catalog.jobs
      .unfinished()
      .filter(({ kind }) => !changesNoLayers.has(kind))
      .map(({ request }) => String(request['context_id'] ?? '')),
  );
}

interface Opened extends Pick<OpenRepository, 'repository' | 'hold' | 'reason'> {
  /** What the catalogue knows of this machine is as it was when it was last written here. */
  readonly isTrusted: (contextId: string) => boolean;
  /** The catalogue knows nothing of it. */
  readonly isFirst: boolean;
}

/** From now on it can be used; the look through it may go on in the background. */
export async function serveRepository(
  deps: ScanDeps,
  repositories: Repositories,
  opened: Opened,
): Promise<void> {
  const { repository, hold, reason, isTrusted, isFirst } = opened;
  const closing = new AbortController();
  const order = { repository, isTrusted, isWritable: hold !== null, signal: closing.signal };
  const { finished } = await beginScan(deps, order);
  const since = deps.clock.now().toISOString();
  repositories.serve({ repository, hold, reason, since, closing, looked: finished }, isFirst);
  const patience = new AbortController();
  const waiting = sleep(isFirst ? FIRST_PATIENCE_MS : PATIENCE_MS, undefined, { signal: patience.signal });
  await Promise.race([finished, waiting.catch(() => undefined)]);
  patience.abort();
}
