import { hasCode } from '../../base/sendense-error.ts';
import type { MirrorPoint } from '../../catalog/mirrors/mirrors.ts';
import { layout, pointIn } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import type { TaskResults } from '../program/mirror-task.ts';
import { readManifest } from './read-point.ts';

const AT_ONCE = 8;

/**
 * All points whose manifest stands, and the names of those whose manifest is damaged. A bucket with ten thousand points
 * is looked at every day, so only manifests that are new are read.
 * @param hasLocks locks may have been extended since
 */
export async function summarizePoints(
  mirror: Mirror,
  known: readonly MirrorPoint[],
  hasLocks: boolean,
): Promise<TaskResults['points']> {
  const before = new Map(known.map((point) => [point.name, point]));
  const points: MirrorPoint[] = [];
  const damaged: string[] = [];
  const manifests: { readonly name: string; readonly etag: string }[] = [];
  for await (const { key, etag } of mirror.store.list(layout.metadata)) {
    const name = pointIn(key);
    if (name !== null) manifests.push({ name, etag });
  }
  const lockOf = async (name: string) =>
    hasLocks ? ((await mirror.store.retentionOf(layout.manifest(name)))?.until.toISOString() ?? null) : null;
  const summarize = async (name: string, etag: string): Promise<MirrorPoint> => {
    const same = before.get(name);
    if (same && same.etag === etag) return { ...same, lockedUntil: await lockOf(name) };
    const manifest = await readManifest(mirror, name);
    return {
      name,
      backupId: manifest.backup_id,
      diskIndex: manifest.disk_index,
      vmName: manifest.vm.vm_name,
      vmUuid: manifest.vm.vm_uuid,
      createdAt: manifest.timestamp,
      completedAt: manifest.completed_at,
      uploadedAt: manifest.uploaded_at,
      sizeBytes: manifest.volumeSize,
      dataBytes: manifest.totalSize,
      storedBytes: manifest.stored_bytes,
      members: manifest.members,
      lockedUntil: await lockOf(name),
      etag,
    };
  };
  const worker = async () => {
    for (let next = manifests.shift(); next !== undefined; next = manifests.shift()) {
      try {
        points.push(await summarize(next.name, next.etag));
      } catch (error) {
        if (!hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING', 'MIRROR_TOO_NEW')) throw error;
        damaged.push(next.name);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { points, damaged };
}
