import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { ParentRows } from './parent-rows.ts';
import { type Row, RowWriter, readRows } from './rows.ts';

const folder = mkdtempSync(join(tmpdir(), 'sd-rows-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const digest = (letter: string) => letter.repeat(64);
async function file(name: string, rows: readonly Row[]): Promise<string> {
  const path = join(folder, name);
  const writer = new RowWriter(path);
  for (const row of rows) await writer.write(row);
  await writer.close();
  return path;
}

it('is plain JSON to any other program, zero rows joined', async () => {
  const path = await file('a', [
    { offset: 0, size: 10, b3: digest('a') },
    { offset: 10, size: 10, zero: true },
    { offset: 20, size: 10, zero: true },
  ]);
  expect(JSON.parse(execFileSync('zstd', ['-dc', path], { encoding: 'utf8' }))).toEqual({
    format: 1,
    digest: 'blake3',
    blocks: [
      { offset: 0, size: 10, b3: digest('a') },
      { offset: 10, size: 20, zero: true },
    ],
  });
  expect(await Array.fromAsync(readRows(path))).toHaveLength(2);
});

it('refuses what is cut off, not in order or from the future', async () => {
  const path = await file(
    'b',
    Array.from({ length: 5000 }, (_, index) => ({
      offset: index,
      size: 1,
      b3: index.toString(16).padStart(64, '0'),
    })),
  );
  truncateSync(path, 3000);
  await expect(Array.fromAsync(readRows(path))).rejects.toMatchObject({ code: 'FORMAT_INVALID' });
  const write = (text: string) => writeFileSync(path, execFileSync('zstd', ['-c'], { input: text }));
  write('{"format":9,"digest":"blake3","blocks":[\n]}\n');
  await expect(Array.fromAsync(readRows(path))).rejects.toMatchObject({ code: 'FORMAT_TOO_NEW' });
  write(
    `{"format":1,"digest":"blake3","blocks":[\n{"offset":5,"size":5,"zero":true},\n{"offset":0,"size":5,"zero":true}\n]}\n`,
  );
  await expect(Array.fromAsync(readRows(path))).rejects.toMatchObject({ code: 'FORMAT_INVALID' });
  write('{"format":1,"digest":"blake3","blocks":[\n{"offset":5,"size":5}\n]}\n');
  await expect(Array.fromAsync(readRows(path))).rejects.toMatchObject({ code: 'FORMAT_INVALID' });
});

it('lets the newest layer win, and knows nothing of what is covered in part', async () => {
  const older = await file('old', [
    { offset: 0, size: 10, b3: digest('a') },
    { offset: 10, size: 10, b3: digest('b') },
    { offset: 20, size: 40, zero: true },
    { offset: 60, size: 5, b3: digest('c') },
  ]);
  const newer = await file('new', [{ offset: 10, size: 10, b3: digest('d') }]);
  await using rows = new ParentRows([newer, older]);
  expect(await rows.covering(0, 10)).toMatchObject({ layer: 1, row: { b3: digest('a') } });
  expect(await rows.covering(10, 10)).toMatchObject({ layer: 0, row: { b3: digest('d') } });
  expect(await rows.covering(20, 10)).toMatchObject({ row: { zero: true } });
  expect(await rows.covering(50, 10)).toMatchObject({ row: { zero: true } });
  expect(await rows.covering(60, 10)).toBeNull();
  expect(await rows.covering(70, 10)).toBeNull();
});
