import { stat } from 'node:fs/promises';
import type { ManifestDisk, Sidecar } from '../../repository/documents.ts';
import { REPOSITORY_FORMAT } from '../../repository/documents.ts';
import { digestFile, nameLayer, sealLayer, writeSidecar } from '../../repository/layers/seal-layer.ts';
import type { JobContext } from '../job-work.ts';
import type { BackupDeps, BackupRequest } from './backup-deps.ts';
import type { FilledLayer } from './carry/fill-layer.ts';

/** Proves a filled layer, names it and writes its sidecar. The manifest that makes it count comes later. */
export async function publishLayer(
  deps: Pick<BackupDeps, 'clock' | 'toolVersions'>,
  request: BackupRequest,
  context: JobContext,
  filled: FilledLayer,
): Promise<{ entry: ManifestDisk; fingerprint: string }> {
  const { files, plan, layer, diskIndex, disk } = filled;
  const parentLayer = plan.parent?.layers[0]?.layer ?? null;
  const detail = { disk_index: diskIndex, layer };
  context.intent('layer-sealed', detail);
  await sealLayer(
    files,
    { layer, virtualSizeBytes: disk.sizeBytes, backingName: parentLayer },
    context.signal,
  );
  context.fact('layer-sealed', detail);
  context.intent('layer-named', detail);
  const rowsDigest = await digestFile(files.partialRows);
  await nameLayer(files);
  context.fact('layer-named', detail);
  const { size, mtimeMs } = await stat(files.image);
  const sidecar: Sidecar = {
    format: REPOSITORY_FORMAT,
    layer,
    parent_layer: parentLayer,
    type: plan.type,
    backup_id: request.backupId,
    disk_index: diskIndex,
    disk_key: disk.key,
    virtual_size_bytes: disk.sizeBytes,
    change_id: disk.changeId,
    export_name: filled.exportName,
    written_bytes: filled.writtenBytes,
    file_bytes: size,
    rows_b3: rowsDigest,
    tool_versions: { ...deps.toolVersions },
    sealed_at: deps.clock.now().toISOString(),
    verification: null,
  };
  context.intent('sidecar-written', detail);
  await writeSidecar(files, sidecar);
  context.fact('sidecar-written', detail);
  return {
    entry: {
      disk_index: diskIndex,
      disk_key: disk.key,
      type: plan.type,
      reason: plan.reason,
      layer,
      parent_layer: parentLayer,
      parent_backup_id: plan.parent?.backupId ?? null,
      virtual_size_bytes: disk.sizeBytes,
      written_bytes: filled.writtenBytes,
      file_bytes: size,
    },
    fingerprint: `${size}:${mtimeMs}`,
  };
}
