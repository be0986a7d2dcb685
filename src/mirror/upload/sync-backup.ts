import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { readCondemned } from '../collect/condemned.ts';
import { layout, packIdIn } from '../layout.ts';
import { confirmOwner } from '../owner.ts';
import { keepLocked } from '../retention/keep-locked.ts';
import { commitPoints } from './commit-points.ts';
import { PackUploader } from './pack-uploader.ts';
import { preparePoint } from './prepare-point.ts';
import { revivePoint } from './revive-point.ts';
import { UploadSession } from './session.ts';
import type { PreparedPoint, SyncDeps } from './sync-deps.ts';
import type { BackupInput, DiskInput } from './sync-task.ts';

export interface SyncResult {
  /** Points that are in the mirror now and were not before. */
  readonly added: readonly string[];
  readonly lockedUntil: string | null;
}

/** What was reused may be condemned meanwhile, which happens once a day at most. */
const MAX_ATTEMPTS = 3;

/**
 * Brings one restore point into the mirror. It is there when the manifests of all its disks are, which are written last.
 * @throws MIRROR_…, LAYER_CORRUPT, CANCELLED
 */
export async function syncBackup(deps: SyncDeps, backup: BackupInput): Promise<SyncResult> {
  const missing = await missingDisks(deps, backup);
  const lockedUntil = deps.retention?.until.toISOString() ?? null;
  const [first] = missing;
  if (!first) return { added: [], lockedUntil: null };
  await confirmOwner(deps.mirror, deps.writer);
  const session = await UploadSession.begin(deps.mirror, deps.writer, first.point);
  const gone: DiskInput[] = [];
  for (const disk of missing) if (!(await revivePoint(deps, disk.point))) gone.push(disk);
  for (let attempt = 1; gone.length > 0; attempt += 1) {
    // from here on the collector deletes nothing, so what is not condemned now stays
    const condemned = await readCondemned(deps.mirror.store);
    forget(deps.index, condemned);
    const points = await prepare(deps, gone, session, condemned);
    if (!(await isAllThere(deps, points))) {
      if (attempt < MAX_ATTEMPTS) continue;
      throw new SendenseError('MIRROR_CONFLICT', { key: layout.packs });
    }
    await keepLocked(deps.mirror, deps.index, points, deps.retention);
    await confirmOwner(deps.mirror, deps.writer);
    await commitPoints(deps, backup, points);
    break;
  }
  for (const { point } of missing) deps.index.addPoint(point);
  await session.end();
  return { added: missing.map(({ point }) => point), lockedUntil };
}

/** Asks the bucket, whatever the index says: somebody may have deleted them. */
async function missingDisks(deps: SyncDeps, { disks }: BackupInput): Promise<DiskInput[]> {
  const { mirror, index, damaged } = deps;
  const missing: DiskInput[] = [];
  for (const disk of disks) {
    const isThere = (await mirror.store.head(layout.manifest(disk.point))) !== null;
    if (isThere && !damaged.has(disk.point)) index.addPoint(disk.point);
    else {
      index.dropPoint(disk.point);
      missing.push(disk);
    }
  }
  return missing;
}

function forget(index: MirrorIndex, condemned: ReadonlySet<string>): void {
  const packs = [...condemned].map(packIdIn).filter((id) => id !== null);
  index.dropPacks(packs);
}

async function prepare(
  deps: SyncDeps,
  missing: readonly DiskInput[],
  session: UploadSession,
  condemned: ReadonlySet<string>,
): Promise<PreparedPoint[]> {
  const { mirror, index, pacer, progress, signal, level, retention } = deps;
  const settings = { level, retention };
  const onPack = (id: string) => session.addPack(id);
  await using uploader = new PackUploader({ mirror, index, settings, pacer, progress, signal, onPack });
  const finishers: (() => Promise<PreparedPoint>)[] = [];
  try {
    for (const disk of missing) finishers.push(await preparePoint({ ...deps, uploader, condemned }, disk));
    await uploader.flush();
    return await Promise.all(finishers.map((finish) => finish()));
  } catch (error) {
    await uploader.abandon();
    throw error;
  }
}

/** Somebody may delete objects behind our back; a point must not stand on what is gone. */
async function isAllThere({ mirror, index }: SyncDeps, points: readonly PreparedPoint[]): Promise<boolean> {
  const packs = new Set(points.flatMap(({ reusedPacks }) => reusedPacks));
  if (packs.size === 0) return true;
  const there = new Set<string>();
  if (packs.size <= 16) {
    for (const id of packs) if ((await mirror.store.head(layout.pack(id))) !== null) there.add(id);
  } else
    for await (const { key } of mirror.store.list(layout.packs)) {
      const id = packIdIn(key);
      if (id !== null) there.add(id);
    }
  const gone = [...packs].filter((id) => !there.has(id));
  index.dropPacks(gone);
  return gone.length === 0;
}
