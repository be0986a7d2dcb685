import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Manifest } from '../documents.ts';
import { layout } from '../layout.ts';
import { releaseRetired } from './retired-layers.ts';

it('keeps the layer of a backup whose manifest was brought back beside its tombstone', async () => {
  const root = mkdtempSync(join(tmpdir(), 'sd-retired-'));
  const vmUuid = '11111111-1111-4111-8111-111111111111';
  const manifest: Manifest = {
    format: 1,
    backup_id: 'backup-m-20261120000000',
    job_id: 'job-1',
    vm_uuid: vmUuid,
    vm_name: 'm',
    context_id: 'ctx-m-20261120-000000',
    requested_type: 'full',
    consistency: 'crash',
    created_at: '2026-11-20T00:00:00.000Z',
    completed_at: '2026-11-20T00:00:00.000Z',
    disks: [
      {
        disk_index: 0,
        disk_key: '/disk',
        type: 'full',
        reason: null,
        layer: 'full-20261120-000000.qcow2',
        parent_layer: null,
        parent_backup_id: null,
        virtual_size_bytes: 1,
        written_bytes: 1,
        file_bytes: 1,
      },
    ],
  };
  try {
    const disk = layout.diskFolder(root, vmUuid, 0);
    mkdirSync(disk, { recursive: true });
    mkdirSync(layout.backupsFolder(root, vmUuid));
    const image = join(disk, 'full-20261120-000000.qcow2');
    writeFileSync(image, 'layer');
    const tombstone = layout.tombstoneFile(root, vmUuid, manifest.backup_id);
    const living = layout.manifestFile(root, vmUuid, manifest.backup_id);
    for (const path of [tombstone, living]) writeFileSync(path, JSON.stringify(manifest));
    await releaseRetired(root, vmUuid);
    expect(existsSync(image)).toBe(true);
    rmSync(living);
    await releaseRetired(root, vmUuid);
    expect(existsSync(image)).toBe(false);
    expect(existsSync(tombstone)).toBe(false);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
