import { messageOf } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import type { RepositoryRecord } from '../../catalog/repositories.ts';
import { confirmRepository, type Repository, repositorySpace } from '../../repository/open-repository.ts';
import { type Finding, failed, ok, warn } from './finding.ts';

/** Warned of below this many times the reserve: time to act before a backup is refused. */
const LOW_FACTOR = 10;

/** One finding for each repository, also for those that could not be opened. */
export async function checkRepositories(
  known: readonly RepositoryRecord[],
  open: readonly Repository[],
  reserveBytes: number,
): Promise<Finding[]> {
  return await Promise.all(
    known.map(async (record) => {
      const check = `repository ${record.name}`;
      const repository = open.find((candidate) => candidate.id === record.id);
      if (!repository)
        return failed(
          check,
          `${record.root} is not open`,
          `Mount its file system, then: sendense-ctl repository add ${record.name} --path ${record.root}. If it is gone for good: sendense-ctl repository remove ${record.name}`,
        );
      try {
        await confirmRepository(repository);
        const { availableBytes, totalBytes } = await repositorySpace(repository.root);
        return judgeSpace(check, availableBytes, totalBytes, reserveBytes);
      } catch (error) {
        return failed(check, messageOf(error), `sendense-ctl repository test ${record.name}`);
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
