import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorPoint, MirrorRecord } from '../../catalog/mirrors/mirrors.ts';
import type { MirrorDeps } from './mirror-deps.ts';

/** A restore point of a machine in a mirror. */
export interface MirroredBackup {
  readonly backupId: string;
  readonly vmName: string;
  readonly createdAt: string;
  readonly completedAt: string;
  readonly uploadedAt: string;
  /** False: a disk is missing, it cannot be restored as a whole. */
  readonly isWhole: boolean;
  readonly lockedUntil: string | null;
  readonly sizeBytes: number;
  readonly storedBytes: number;
  readonly disks: readonly MirrorPoint[];
}

/** Newest first. */
export function mirroredBackups(points: readonly MirrorPoint[]): MirroredBackup[] {
  const byBackup = Map.groupBy(points, ({ backupId }) => backupId);
  return [...byBackup.values()].flatMap((disks) => {
    const [first] = disks;
    if (!first) return [];
    const names = new Set(disks.map(({ name }) => name));
    const locks = disks.map(({ lockedUntil }) => lockedUntil);
    return [
      {
        backupId: first.backupId,
        vmName: first.vmName,
        createdAt: first.createdAt,
        completedAt: first.completedAt,
        uploadedAt:
          disks
            .map(({ uploadedAt }) => uploadedAt)
            .toSorted()
            .at(-1) ?? first.uploadedAt,
        isWhole: disks.every(({ members }) => members.every((member) => names.has(member))),
        // as long as the disk that is locked for the shortest time
        lockedUntil: locks.includes(null) ? null : (locks.toSorted()[0] ?? null),
        sizeBytes: disks.reduce((sum, disk) => sum + disk.sizeBytes, 0),
        // each disk counts what the whole upload had stored until then
        storedBytes: Math.max(...disks.map((disk) => disk.storedBytes)),
        disks: disks.toSorted((a, b) => a.diskIndex - b.diskIndex),
      },
    ];
  });
}

/**
 * By id, by a unique beginning of an id, `latest` or `latest:<vm>`.
 * @throws MIRROR_POINT_UNKNOWN, BACKUP_AMBIGUOUS
 */
export function findMirrored(
  { catalog }: Pick<MirrorDeps, 'catalog'>,
  record: MirrorRecord,
  wanted: string,
): MirroredBackup {
  const whole = mirroredBackups(catalog.mirrors.points(record.name)).filter(({ isWhole }) => isWhole);
  const unknown = () => new SendenseError('MIRROR_POINT_UNKNOWN', { mirror: record.name, backup: wanted });
  const latest = /^latest(?::(.+))?$/.exec(wanted);
  if (latest) {
    const found = whole.find(({ vmName }) => latest[1] === undefined || vmName === latest[1]);
    if (!found) throw unknown();
    return found;
  }
  const exact = whole.find(({ backupId }) => backupId === wanted);
  if (exact) return exact;
  const [only, ...others] =
    wanted.length < 3 ? [] : whole.filter(({ backupId }) => backupId.startsWith(wanted));
  if (!only) throw unknown();
  if (others.length === 0) return only;
  const candidates = [only, ...others].map(({ backupId }) => backupId);
  throw new SendenseError('BACKUP_AMBIGUOUS', { backup: wanted, count: candidates.length, candidates });
}

/** All its disks, also of one that is not whole. @throws MIRROR_POINT_UNKNOWN */
export function pointsOf({ catalog }: Pick<MirrorDeps, 'catalog'>, record: MirrorRecord, backupId: string) {
  const points = catalog.mirrors.points(record.name).filter((point) => point.backupId === backupId);
  if (points.length === 0)
    throw new SendenseError('MIRROR_POINT_UNKNOWN', { mirror: record.name, backup: backupId });
  return points;
}
