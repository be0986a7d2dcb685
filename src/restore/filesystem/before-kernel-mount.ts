import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { run } from '../../base/process/run.ts';
import { messageOf } from '../../base/sendense-error.ts';

/** From here on the kernel gives a second btrfs of the same UUID an id of its own. */
const TEMPORARY_ID_KERNEL = [6, 7] as const;

/**
 * The kernel tells btrfs devices apart by UUID alone: a second one of the same disk would mix with the first. It is given
 * another UUID in the throw-away overlay, where the kernel cannot do that by itself.
 * @returns why it must not be mounted, or null
 */
export async function beforeKernelMount(
  fsType: string,
  uuid: string | null,
  sliceFile: () => Promise<string>,
): Promise<string | null> {
  if (fsType !== 'btrfs' || !existsSync(`/sys/fs/btrfs/${uuid}`)) return null;
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [wantedMajor, wantedMinor] = TEMPORARY_ID_KERNEL;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) return null;
  try {
    await run('btrfstune', ['-f', '-m', await sliceFile()]);
    return null;
  } catch (error) {
    return `a btrfs of the same UUID is mounted already and this one keeps it (${messageOf(error)}); mount with --mode vm`;
  }
}
