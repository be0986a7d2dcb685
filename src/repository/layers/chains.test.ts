import { expect, it } from 'vitest';
import { type ChainMember, chainsOf, dependantsOf, membersOnLayer } from './chains.ts';

const member = (id: string, ...disks: [number, string, string | null, string | null][]): ChainMember => ({
  id,
  disks: disks.map(([diskIndex, layer, parentLayer, parentBackupId]) => ({
    diskIndex,
    layer,
    parentLayer,
    parentBackupId,
    fileBytes: 10,
  })),
});
const members = [
  member('1', [0, 'full-1', null, null], [1, 'full-1', null, null]),
  member('2', [0, 'incr-2', 'full-1', '1'], [1, 'incr-2', 'full-1', '1']),
  // disk 1 lost its tracking here
  member('3', [0, 'incr-3', 'incr-2', '2'], [1, 'full-3', null, null]),
  member('4', [0, 'diff-4', 'full-1', '1'], [1, 'incr-4', 'full-3', '3']),
];

it('groups by disk and by full', () => {
  expect(
    chainsOf(members).map((chain) => [
      chain.diskIndex,
      chain.fullBackupId,
      chain.latestBackupId,
      chain.backups.length,
      chain.totalSizeBytes,
    ]),
  ).toEqual([
    [0, '1', '4', 4, 40],
    [1, '1', '2', 2, 20],
    [1, '3', '4', 2, 20],
  ]);
});

it('finds who needs whom', () => {
  expect(dependantsOf(members, '1')).toEqual(['2', '3', '4']);
  expect(dependantsOf(members, '3')).toEqual(['4']);
  expect(dependantsOf(members, '4')).toEqual([]);
});

it('finds all that is read through a layer, of this disk only', () => {
  expect(membersOnLayer(members, 0, 'incr-2')).toEqual(['2', '3']);
  expect(membersOnLayer(members, 1, 'full-1')).toEqual(['1', '2']);
});

it('does not take a backup for the deleted one whose id it got', () => {
  const after: ChainMember[] = [
    { ...member('1', [0, 'full-1', null, null]), retired: true },
    member('2', [0, 'incr-2', 'full-1', '1']),
    member('1', [0, 'incr-1', 'incr-2', '2']),
  ];
  expect(dependantsOf(after, '1')).toEqual([]);
  expect(dependantsOf(after, '2')).toEqual(['1']);
  expect(membersOnLayer(after, 0, 'full-1')).toEqual(['2', '1']);
});
