import { expect, test } from 'vitest';
import { parseMountTable } from './mount-table.ts';

test('optional fields and escapes', () => {
  const text = [
    '36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw',
    '37 35 7:0 / /a\\040b\\134c\\012d ro - ext4 /dev/loop0 ro',
    '',
  ].join('\n');
  expect(parseMountTable(text)).toEqual([
    { mountPoint: '/mnt2', source: '/dev/root', deviceNumber: '98:0' },
    { mountPoint: '/a b\\c\nd', source: '/dev/loop0', deviceNumber: '7:0' },
  ]);
});
