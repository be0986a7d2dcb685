import { SendenseError } from '../../base/sendense-error.ts';
import type { RepositoryDocument } from '../../repository/documents.ts';
import { isOnlyBound, mountPointOf } from '../../repository/mount-point.ts';

/**
 * On which mount a repository must lie: `decide` takes it as it is now, `auto` insists on a mount of its own, `none`
 * never looks; anything else is the mount point.
 */
export type MountWish = 'decide' | 'auto' | 'none' | (string & {});

/**
 * @param document what the folder says of itself; null when it is not known yet
 * @returns the mount point, or null when it may lie anywhere
 * @throws REPOSITORY_UNAVAILABLE when the folder does not lie where it must
 */
export async function decideMount(
  root: string,
  wish: MountWish,
  document: RepositoryDocument | null,
): Promise<string | null> {
  if (wish === 'none') return null;
  const found = await mountPointOf(root);
  const refuse = (detail: string) => new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail });
  if (wish === 'auto' || wish === 'decide') {
    if (found !== '/') return found;
    if (wish === 'auto') throw refuse('nothing is mounted there: it lies on the root file system');
    if (document?.own_mount && !(await isOnlyBound(root)))
      throw refuse(
        'this repository belongs on a mount of its own, and nothing is mounted there; if it was moved here for good, say --no-mount-check',
      );
    return null;
  }
  if (found === wish) return found;
  throw refuse(`nothing is mounted at ${wish}, or it does not hold this folder`);
}
