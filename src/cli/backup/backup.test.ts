import { expect, test } from 'vitest';
import { typeOf, verifiedOf } from './backup.ts';

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

test.each([
  [null, null, 'never'],
  ['2026-11-20T23:10:00.120Z', true, '2026-11-20'],
  ['2026-11-20T23:10:00.120Z', false, 'BAD'],
  // one disk is bad, another was never looked at
  [null, false, 'BAD'],
])('verified at %s with %s is shown as %s', (verified_at, verified_ok, shown) => {
  expect(verifiedOf({ verified_at, verified_ok })).toBe(shown);
});
