import { messageOf } from '../base/sendense-error.ts';
import { diskIndexes } from './disk-layers.ts';
import { vmFolderPattern } from './layout.ts';
import { type CarryOutDeps, settleMerge } from './merge/carry-out-merge.ts';
import { namesIn } from './names-in.ts';
import { readRetired, releaseRetired } from './retired-layers.ts';

/** Something of one machine that could not be brought to an end. */
export interface Unsettled {
  readonly vmUuid: string;
  readonly detail: string;
}

/**
 * Ends what a crash interrupted in a repository that nobody uses yet: rewritten layers are switched or forgotten,
 * layers of deleted backups that nothing needs are removed. A machine that cannot be settled does not keep the others
 * waiting.
 */
export async function settleRepository(root: string, deps: CarryOutDeps): Promise<Unsettled[]> {
  const unsettled: Unsettled[] = [];
  for (const vmUuid of (await namesIn(root)).filter((name) => vmFolderPattern.test(name))) {
    try {
      for (const diskIndex of await diskIndexes(root, vmUuid))
        await settleMerge({ root, vmUuid, diskIndex }, deps);
      if ((await readRetired(root, vmUuid)).length > 0) await releaseRetired(root, vmUuid);
    } catch (error) {
      unsettled.push({ vmUuid, detail: messageOf(error) });
    }
  }
  return unsettled;
}
