import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { layout } from '../layout.ts';
import { claimLayer } from './claim-layer.ts';

const vmUuid = '11111111-1111-4111-8111-111111111111';
let place: { root: string; vmUuid: string; diskIndex: number };
let folder: string;

beforeEach(() => {
  place = { root: mkdtempSync(join(tmpdir(), 'sd-claim-')), vmUuid, diskIndex: 0 };
  folder = layout.diskFolder(place.root, vmUuid, 0);
  mkdirSync(folder, { recursive: true });
  mkdirSync(layout.backupsFolder(place.root, vmUuid));
});
afterEach(() => rmSync(place.root, { recursive: true }));

const claim = (stem = 'full-20261120-000000') => claimLayer(place, stem);

it('gives every one who asks at the same time a name of its own, and holds it', async () => {
  const layers = await Promise.all(Array.from({ length: 8 }, () => claim()));
  expect(new Set(layers).size).toBe(8);
  expect(layers).toContain('full-20261120-000000.qcow2');
  expect(layers).toContain('full-20261120-000000-8.qcow2');
  expect(readdirSync(folder).sort()).toEqual(layers.map((layer) => `${layer}.partial`).sort());
});

it.each(['.qcow2', '.json', '.blocks.json.zst', '.written'])(
  'takes no name of which a %s is left',
  async (suffix) => {
    writeFileSync(join(folder, `full-20261120-000000${suffix}`), '');
    expect(await claim()).toBe('full-20261120-000000-2.qcow2');
  },
);

it('takes off a suffix before it gives another', async () => {
  writeFileSync(join(folder, 'full-20261120-000000-2.qcow2'), '');
  expect(await claim('full-20261120-000000-2')).toBe('full-20261120-000000.qcow2');
});

it('leaves the name of a deleted layer alone until its tombstone is gone', async () => {
  const tombstone = layout.tombstoneFile(place.root, vmUuid, 'backup-m-20261120000000');
  const disk = {
    disk_key: '/disk',
    type: 'full',
    reason: null,
    layer: 'full-20261120-000000.qcow2',
    parent_layer: null,
    parent_backup_id: null,
    virtual_size_bytes: 1,
    written_bytes: 1,
    file_bytes: 1,
  };
  const manifest = {
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
    disks: [{ ...disk, disk_index: 0 }],
  };
  writeFileSync(tombstone, JSON.stringify(manifest));
  expect(await claim()).toBe('full-20261120-000000-2.qcow2');
  // of another disk it says nothing
  writeFileSync(
    tombstone,
    JSON.stringify({
      ...manifest,
      disks: [
        { ...disk, disk_index: 1, layer: 'full-20261120-000001.qcow2' },
        { ...disk, disk_index: 0 },
      ],
    }),
  );
  expect(await claim('full-20261120-000001')).toBe('full-20261120-000001.qcow2');
  rmSync(tombstone);
  expect(await claim()).toBe('full-20261120-000000.qcow2');
});
