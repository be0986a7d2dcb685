import { afterEach, expect, it, vi } from 'vitest';
import { print } from './output.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

it('a table of a folder with 200,000 files is printed', () => {
  let lines = 0;
  vi.spyOn(process.stdout, 'write').mockImplementation(() => {
    lines += 1;
    return true;
  });
  const rows = Array.from({ length: 200_000 }, (_, index) => `file-${index}`);
  print('table', {}, rows, [{ title: 'NAME', value: (row) => row }], (row) => row);
  expect(lines).toBe(200_001);
});
