import { stat } from 'node:fs/promises';
import { SendenseError } from '../../../base/sendense-error.ts';
import { formatBytes } from '../../../base/units.ts';
import type { Backup } from '../../../catalog/points/backup-rows.ts';
import { estimateLayer } from '../../../policy/space/estimate-layer.ts';
import { confirmWritable, repositorySpace } from '../../../repository/open-repository.ts';
import type { JobContext } from '../../job-work.ts';
import type { BackupDeps, BackupRequest } from '../backup-deps.ts';

/** Enough restore points to find a month of each kind. */
const HISTORY = 100;

/**
 * Refuses a backup that will not fit, before anything is written. What cannot be estimated is not demanded.
 * @throws REPOSITORY_FULL with `missing_bytes`, REPOSITORY_UNAVAILABLE
 */
export async function checkSpace(
  deps: BackupDeps,
  request: BackupRequest,
  context: JobContext,
): Promise<void> {
  const { repository, vm } = request;
  const { root } = repository;
  await confirmWritable(repository);
  const history = deps.catalog.backups.list({
    ...{ contextId: vm.contextId, repositoryId: repository.id },
    ...{ status: 'completed', limit: HISTORY },
  });
  let neededBytes = 0;
  let unknownBytes = 0;
  for (const disk of vm.disks.filter(({ active }) => active)) {
    // what is at an agent is not looked at here: a path of this host may have the same name
    const isHere = vm.source.kind === 'image' && vm.agentId === null;
    const source = isHere ? await sizesOf(disk.key) : NOT_KNOWN;
    const hasParent = layersOf(history, disk.diskIndex).length > 0;
    const type = hasParent ? request.type : 'full';
    const sameType = layersOf(history, disk.diskIndex, type);
    const estimate = estimateLayer({ type, sameType, allocatedBytes: source.allocatedBytes });
    if (estimate === null) unknownBytes += source.sizeBytes;
    else neededBytes += estimate;
  }
  const { availableBytes } = await repositorySpace(root);
  const usableBytes = availableBytes - deps.reserveBytes;
  const missing = neededBytes - usableBytes;
  if (missing > 0) {
    const reserved = deps.reserveBytes > 0 ? `, ${formatBytes(deps.reserveBytes)} of them reserved` : '';
    throw new SendenseError('REPOSITORY_FULL', {
      path: root,
      detail: `this backup needs about ${formatBytes(neededBytes)}, ${formatBytes(availableBytes)} are free${reserved}; ${formatBytes(missing)} are missing`,
      needed_bytes: neededBytes,
      available_bytes: availableBytes,
      missing_bytes: missing,
    });
  }
  if (neededBytes + unknownBytes > usableBytes)
    context.warn(
      `Whether this backup fits is not known: ${formatBytes(availableBytes)} are free, and its disks may need up to ${formatBytes(neededBytes + unknownBytes)}.`,
    );
}

const layersOf = (history: readonly Backup[], diskIndex: number, type?: string): number[] =>
  history.flatMap(({ disks }) =>
    disks
      .filter((disk) => disk.diskIndex === diskIndex && (type === undefined || disk.type === type))
      .map(({ fileBytes }) => fileBytes),
  );

/** What a source elsewhere holds is told by its earlier restore points only. */
const NOT_KNOWN = { sizeBytes: 0, allocatedBytes: null };

/** A source that cannot be looked at is reported when it is read. */
async function sizesOf(key: string): Promise<{ sizeBytes: number; allocatedBytes: number | null }> {
  const stats = await stat(key).catch(() => null);
  if (!stats?.isFile()) return NOT_KNOWN;
  return { sizeBytes: stats.size, allocatedBytes: Math.min(stats.size, stats.blocks * 512) };
}
