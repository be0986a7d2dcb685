import { SendenseError } from '../../base/sendense-error.ts';
import { chainResource, deletionResource, type LockRequest } from '../resource-locks.ts';

/** What a deletion of restore points holds: no other one runs, nobody merges; readers of other points go on. */
export function deletionLocks(repositoryId: string, contextId: string, vmName: string): LockRequest[] {
  const busy = (holder: string) => new SendenseError('CHAIN_BUSY', { vm: vmName, holder });
  return [
    { resource: deletionResource(repositoryId, contextId), exclusive: true, busy },
    { resource: chainResource(repositoryId, contextId), exclusive: false, busy },
  ];
}
