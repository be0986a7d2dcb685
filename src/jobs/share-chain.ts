import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, SendenseError } from '../base/sendense-error.ts';
import type { Vm } from '../catalog/vms.ts';
import type { Repository } from '../repository/open-repository.ts';
import { chainResource, type ResourceLocks } from './resource-locks.ts';

/** How long to stay away from a chain that somebody else wants or has. */
const RETRY_MS = 250;

interface ShareRequest {
  readonly holder: string;
  readonly vm: Vm;
  readonly repository: Repository;
  /** Ends the waiting. */
  readonly signal: AbortSignal;
}

export interface SharedChain {
  /** Aborted when the caller's signal is, and when somebody wants the chain alone. */
  readonly signal: AbortSignal;
  readonly release: () => void;
}

/**
 * Takes all layers of a machine to read them, and waits for whoever changes them. Background work: others go first.
 * @throws CANCELLED
 */
export async function shareChain(locks: ResourceLocks, request: ShareRequest): Promise<SharedChain> {
  const { vm, repository, signal, holder } = request;
  const wanted = new AbortController();
  const lock = {
    resource: chainResource(repository.id, vm.contextId),
    exclusive: false,
    busy: (other: string) => new SendenseError('VM_BUSY', { vm: vm.name, job: other }),
  };
  for (;;) {
    if (signal.aborted) throw new SendenseError('CANCELLED');
    try {
      const release = locks.acquire(holder, [lock], () => wanted.abort());
      return { release, signal: AbortSignal.any([signal, wanted.signal]) };
    } catch (error) {
      if (!hasCode(error, 'VM_BUSY')) throw error;
      await stayAway(signal);
    }
  }
}

/** After giving way: whoever asked takes it now; coming back at once one would be first again. */
export const stayAway = (signal: AbortSignal) =>
  sleep(RETRY_MS, undefined, { signal }).catch(() => undefined);
