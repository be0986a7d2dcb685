import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { allOf } from '../../../../test/support/all-of.ts';
import { bytesOf } from '../../../../test/support/guest-disk.ts';
import { seededRandom } from '../../../../test/support/seeded-random.ts';
import { FilePieces } from './file-pieces.ts';

const MIB = 1024 * 1024;
const SIZE = 20 * MIB + 777;
const content = bytesOf('pieces', SIZE);
// a file system that reads directly, and one that may not
const folders = [tmpdir(), ...(existsSync('/dev/shm') ? ['/dev/shm'] : [])].map((parent) =>
  mkdtempSync(join(parent, 'sd-pieces-')),
);
const file = (folder: string) => {
  const path = join(folder, 'file');
  writeFileSync(path, content);
  return path;
};
const openFds = () => readdirSync('/proc/self/fd').length;

afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

it.each([true, false])('reads any range as it is, and closes the file (direct: %s)', async (direct) => {
  const { below } = seededRandom(5);
  const ranges = [
    [0, SIZE],
    [1, SIZE - 1],
    [SIZE - 1, SIZE],
    [4096, 12 * MIB],
    [5 * MIB - 1, SIZE],
    [7, 7],
    ...Array.from({ length: 12 }, () => [below(SIZE), below(SIZE)].sort((a, b) => a - b)),
  ] as [number, number][];
  const paths = folders.map(file);
  const before = openFds();
  for (const path of paths)
    for (const [start, end] of ranges) {
      const read = await allOf(new FilePieces(await open(path), { start, end, direct }));
      expect(read.equals(content.subarray(start, end)), `${path} ${start}-${end}`).toBe(true);
    }
  expect(openFds()).toBe(before);
});

it.each([true, false])('says that a file has become shorter (direct: %s)', async (direct) => {
  for (const folder of folders) {
    const path = file(folder);
    const pieces = new FilePieces(await open(path), { start: 0, end: SIZE, direct });
    truncateSync(path, 9 * MIB + 100);
    await expect(allOf(pieces)).rejects.toThrow('the file ends at byte');
  }
});

it('keeps a piece until the second one after it is asked for', async () => {
  const pieces = new FilePieces(await open(file(folders[0] ?? '')), { start: 0, end: SIZE, direct: true });
  let last: Buffer | null = null;
  let at = 0;
  for await (const piece of pieces) {
    if (last) expect(last.equals(content.subarray(at - last.length, at))).toBe(true);
    at += piece.length;
    last = piece;
  }
  expect(at).toBe(SIZE);
});

it('closes the file when nobody asks for a piece', async () => {
  const before = openFds();
  await new FilePieces(await open(file(folders[0] ?? '')), { start: 0, end: SIZE, direct: true }).close();
  expect(openFds()).toBe(before);
});
