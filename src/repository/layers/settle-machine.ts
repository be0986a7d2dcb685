import { type CarryOutDeps, settleMerge } from '../merge/carry-out-merge.ts';
import { diskIndexes } from './disk-layers.ts';
import { readRetired, releaseRetired } from './retired-layers.ts';

/**
 * Ends what a crash interrupted on a machine whose layers nobody uses: rewritten layers are switched or forgotten,
 * layers of deleted backups that nothing needs are removed.
 * @returns true when the papers may be others now
 */
export async function settleMachine(root: string, vmUuid: string, deps: CarryOutDeps): Promise<boolean> {
  let changed = false;
  for (const diskIndex of await diskIndexes(root, vmUuid))
    if (await settleMerge({ root, vmUuid, diskIndex }, deps)) changed = true;
  if ((await readRetired(root, vmUuid)).length === 0) return changed;
  await releaseRetired(root, vmUuid);
  return true;
}
