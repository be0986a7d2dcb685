import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { blake3 } from '@napi-rs/blake-hash';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { type Row, RowWriter } from '../../src/nbd/mover/rows/rows.ts';
import { disproveRows } from '../../src/repository/layers/prove-rows.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-prove-'));
const at = (name: string) => join(work, name);
const content = Buffer.concat([
  bytesOf('one', MIB),
  Buffer.alloc(MIB),
  bytesOf('three', MIB),
  Buffer.alloc(MIB),
]);
const digest = (offset: number, size: number, of = content): string =>
  blake3(of.subarray(offset, offset + size)).toString('hex');
let count = 0;

beforeAll(() => {
  writeFileSync(at('raw'), content);
  sh('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', at('raw'), at('full.qcow2'));
  sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', at('full.qcow2'), '-F', 'qcow2', at('incr.qcow2'));
  sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 0x77 2M 64k', at('incr.qcow2'));
  sh('qemu-img', 'convert', '-O', 'raw', at('incr.qcow2'), at('later'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

async function objection(chain: readonly [string, ...string[]], rows: readonly Row[]) {
  count += 1;
  const rowFile = at(`rows-${count}`);
  const writer = new RowWriter(rowFile);
  for (const row of rows) await writer.write(row);
  await writer.close();
  return await disproveRows(
    { logger: createLogger('error') },
    { chain, rowFile, workFolder: at(`w${count}`), signal: new AbortController().signal },
  );
}

const honest: readonly Row[] = [
  { offset: 0, size: MIB, b3: digest(0, MIB) },
  { offset: MIB, size: MIB, zero: true },
  { offset: 2 * MIB, size: MIB, b3: digest(2 * MIB, MIB) },
  { offset: 3 * MIB, size: MIB, zero: true },
];
const full = [at('full.qcow2')] as const;

it('believes rows that are true', async () => {
  expect(await objection(full, honest)).toBeNull();
  const later = readFileSync(at('later'));
  const row = { offset: 2 * MIB, size: MIB, b3: digest(2 * MIB, MIB, later) };
  expect(await objection([at('incr.qcow2'), at('full.qcow2')], [row])).toBeNull();
});

it('finds a digest of what was never written', async () => {
  const lie = honest.map((row) => (row.offset === 0 ? { offset: 0, size: MIB, b3: 'ab'.repeat(32) } : row));
  expect(await objection(full, lie)).toMatchObject({
    offset: 0,
    detail: expect.stringContaining('another digest'),
  });
});

it('finds zeros that are none', async () => {
  const lie = honest.map(
    (row): Row => (row.offset === 2 * MIB ? { offset: 2 * MIB, size: MIB, zero: true } : row),
  );
  // neighbouring zeros become one row
  expect(await objection(full, lie)).toMatchObject({ offset: MIB });
});

it('finds what was written and is told by no row', async () => {
  const rows = honest.filter(({ offset }) => offset !== 2 * MIB);
  expect(await objection(full, rows)).toMatchObject({
    offset: 2 * MIB,
    detail: expect.stringContaining('no row tells of'),
  });
  expect(await objection([at('incr.qcow2'), at('full.qcow2')], [])).toMatchObject({ offset: 2 * MIB });
});
