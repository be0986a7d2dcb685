import { messageOf } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import { confirmWritable, repositorySpace } from '../../repository/open-repository.ts';
import type { KnownRepository } from '../repository/repositories.ts';
import { type Finding, failed, ok, warn } from './finding.ts';

/** Warned of below this many times the reserve: time to act before a backup is refused. */
const LOW_FACTOR = 10;

/** One finding for each repository, also for those that could not be opened. */
export async function checkRepositories(
  known: readonly KnownRepository[],
  reserveBytes: number,
): Promise<Finding[]> {
  return await Promise.all(
    known.map(async ({ repository, state, reason, since }) => {
      const check = `repository ${repository.name}`;
      if (state === 'away')
        return failed(
          check,
          `${repository.root} is away since ${since}: ${reason}`,
          `Mount its file system; it is opened by itself then. If it is gone for good: sendense-ctl repository remove ${repository.name}`,
        );
      try {
        await confirmWritable(repository);
        const { availableBytes, totalBytes } = await repositorySpace(repository.root);
        return judgeSpace(check, availableBytes, totalBytes, reserveBytes);
      } catch (error) {
        return failed(check, messageOf(error), `sendense-ctl repository test ${repository.name}`);
      }
    }),
  );
}

/** Pure. */
export function judgeSpace(
  check: string,
  availableBytes: number,
  totalBytes: number,
  reserveBytes: number,
): Finding {
  const detail = `${formatBytes(availableBytes)} of ${formatBytes(totalBytes)} free`;
  const next = 'Free space: sendense-ctl backup list, then sendense-ctl backup delete ID --dry-run';
  if (availableBytes < reserveBytes)
    return failed(check, `${detail}, less than repository.reserve_bytes: backups are refused`, next);
  return availableBytes < reserveBytes * LOW_FACTOR
    ? warn(check, `${detail}, little`, next)
    : ok(check, detail);
}
