import { hasCode } from '../../base/sendense-error.ts';
import { layout } from '../layout.ts';
import type { Mirror } from '../mirror.ts';
import type { PointSummary, TaskResults } from '../program/mirror-task.ts';
import { listPointNames, readManifest } from './read-point.ts';

const AT_ONCE = 8;

/** All points whose manifest stands, and the names of those whose manifest is damaged. */
export async function summarizePoints(mirror: Mirror): Promise<TaskResults['points']> {
  const points: PointSummary[] = [];
  const damaged: string[] = [];
  const names = await listPointNames(mirror);
  const worker = async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      try {
        points.push(await summarize(mirror, name));
      } catch (error) {
        if (!hasCode(error, 'MIRROR_OBJECT_DAMAGED', 'MIRROR_OBJECT_MISSING', 'MIRROR_TOO_NEW')) throw error;
        damaged.push(name);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { points, damaged };
}

async function summarize(mirror: Mirror, name: string): Promise<PointSummary> {
  const manifest = await readManifest(mirror, name);
  const lock = await mirror.store.retentionOf(layout.manifest(name));
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
    base: null,
    lockedUntil: lock?.until.toISOString() ?? null,
  };
}
