import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { headerObjection, parseQcow2Header, readQcow2Header } from './qcow2-header.ts';

const folder = mkdtempSync(join(tmpdir(), 'sd-header-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const create = async (...args: string[]) => {
  const path = join(folder, 'x.qcow2');
  rmSync(path, { force: true });
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args.slice(0, -1), path, args.at(-1) ?? '1M']);
  return await readQcow2Header(path);
};

it('reads what qemu-img wrote', async () => {
  expect(await create('7M')).toMatchObject({
    version: 3,
    virtualSizeBytes: 7 * 1024 * 1024,
    clusterBytes: 65536,
    backingFile: null,
    hasExternalData: false,
  });
  expect(await create('-o', 'compat=0.10', '1M')).toMatchObject({ version: 2, backingFile: null });
  expect(await create('-u', '-b', '/etc/shadow', '-F', 'raw', '1M')).toMatchObject({
    backingFile: '/etc/shadow',
    backingFormat: 'raw',
  });
});

it('objects to what reaches outside the file', async () => {
  const external = await create('-o', `data_file=${join(folder, 'data.raw')}`, '1M');
  expect(external && headerObjection(external)).toContain('external data file');
  const plain = await create('-o', 'compat=1.1', '1M');
  expect(plain && headerObjection(plain)).toBeNull();
});

it('takes nothing for a qcow2 that is none, and throws at nonsense inside', async () => {
  await create('1M');
  const bytes = readFileSync(join(folder, 'x.qcow2'));
  writeFileSync(join(folder, 'raw'), Buffer.alloc(4096));
  expect(await readQcow2Header(join(folder, 'raw'))).toBeNull();
  const broken = (offset: number, value: number) => {
    const copy = Buffer.from(bytes);
    copy.writeUInt32BE(value, offset);
    return () => parseQcow2Header(copy);
  };
  expect(broken(4, 99)).toThrow('version');
  expect(broken(20, 40)).toThrow('cluster_bits');
  expect(broken(8, 0x7fffffff)).toThrow(RangeError);
});
