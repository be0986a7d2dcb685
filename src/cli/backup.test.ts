import { expect, test } from 'vitest';
import { typeOf } from './backup.ts';

const disk = (backup_type: string) => ({
  disk_id: 0,
  backup_type,
  reason: null,
  unexpected: false,
  layer: 'a.qcow2',
  file_bytes: 1,
  size_bytes: 1,
});

test.each([
  ['what was asked for while there are no disks', 'incremental', [], 'incremental'],
  ['full when the first backup was asked for as incremental', 'incremental', ['full', 'full'], 'full'],
  ['what all disks are', 'incremental', ['incremental', 'incremental'], 'incremental'],
  ['mixed when the disks differ', 'incremental', ['incremental', 'full'], 'mixed'],
])('the type of a backup is %s', (_what, backup_type, types, shown) => {
  expect(typeOf({ backup_type, disks: types.map(disk) })).toBe(shown);
});
