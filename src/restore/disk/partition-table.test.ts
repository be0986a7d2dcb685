import { expect, test } from 'vitest';
import { parsePartitionTable } from './partition-table.ts';

const table = (device: string, partitions: object[], sectorsize?: number) =>
  JSON.stringify({
    partitiontable: {
      label: 'dos',
      device,
      unit: 'sectors',
      ...(sectorsize ? { sectorsize } : {}),
      partitions,
    },
  });

test('the container of logical partitions is left out, its content is not', () => {
  const json = table('/run/disk0.img', [
    { node: '/run/disk0.img1', start: 2048, size: 2048, type: '83' },
    { node: '/run/disk0.img2', start: 4096, size: 8192, type: '5' },
    { node: '/run/disk0.img5', start: 6144, size: 2048, type: '83' },
  ]);
  expect(
    parsePartitionTable(json, 2 ** 30).map((slice) => [
      slice.partitionNumber,
      slice.offsetBytes,
      slice.sizeBytes,
    ]),
  ).toEqual([
    [1, 1048576, 1048576],
    [5, 3145728, 1048576],
  ]);
});

test('a device that ends in a digit, large sectors, slices beyond the end', () => {
  const json = table(
    '/dev/nbd7',
    [
      { node: '/dev/nbd7p12', start: 256, size: 256, type: 'x' },
      { node: '/dev/nbd7p13', start: 512, size: 9999, type: 'x' },
      { node: '/dev/nbd7p14', start: 99999, size: 1, type: 'x' },
    ],
    4096,
  );
  expect(parsePartitionTable(json, 4 * 2 ** 20)).toEqual([
    { partitionNumber: 12, offsetBytes: 2 ** 20, sizeBytes: 2 ** 20 },
    { partitionNumber: 13, offsetBytes: 2 ** 21, sizeBytes: 2 ** 21 },
  ]);
});
