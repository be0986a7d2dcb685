import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { NbdConnection } from '../../src/nbd/client/nbd-connection.ts';
import { serveExports } from '../../src/nbd/serve/serve-export.ts';

const tool = promisify(execFile);
const SIZE = 9 * 1024 * 1024 + 512;
let folder: string;
let socketPath: string;
let content: Buffer;
let stop: () => Promise<void>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sd-serve-'));
  socketPath = join(folder, 'nbd.sock');
  content = randomBytes(SIZE);
  const read = async (offset: number, into: Buffer) => {
    content.copy(into, 0, offset, offset + into.length);
  };
  stop = await serveExports(socketPath, [
    { name: 'one', sizeBytes: SIZE, read },
    { name: 'none', sizeBytes: 0, read },
    {
      name: 'broken',
      sizeBytes: SIZE,
      read: async (offset, into) => {
        if (offset >= 1024 * 1024) throw new Error('a bad sector');
        await read(offset, into);
      },
    },
  ]);
});
afterEach(async () => {
  await stop();
  rmSync(folder, { recursive: true, force: true });
});
const uri = (name: string) => `nbd+unix:///${name}?socket=${socketPath}`;

it('gives real clients every byte', async () => {
  const { stdout } = await tool('nbdinfo', ['--json', uri('one')]);
  expect(JSON.parse(stdout).exports[0]).toMatchObject({
    'export-size': SIZE,
    is_read_only: true,
    can_multi_conn: true,
  });
  const copy = join(folder, 'copy');
  await tool('nbdcopy', ['--connections=4', uri('one'), copy]);
  expect(readFileSync(copy).equals(content)).toBe(true);
  writeFileSync(join(folder, 'raw'), content);
  await tool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri('one'), join(folder, 'raw')]);
  const list = await tool('nbdinfo', ['--list', '--json', `nbd+unix:///?socket=${socketPath}`]);
  expect(JSON.parse(list.stdout).exports.map((one: { 'export-name': string }) => one['export-name'])).toEqual(
    ['one', 'none', 'broken'],
  );
});

it('answers for a bad place with an error and for all others with data', async () => {
  await using connection = await NbdConnection.connect({ socketPath, exportName: 'broken' });
  const into = Buffer.alloc(4096);
  await expect(connection.read(1024 * 1024, into)).rejects.toMatchObject({ errno: 'EIO' });
  await expect(connection.read(SIZE - 512, into)).rejects.toMatchObject({ errno: 'EINVAL' });
  await connection.read(8192, into);
  expect(into.equals(content.subarray(8192, 8192 + 4096))).toBe(true);
});

it('lets nobody write', async () => {
  const written = tool('qemu-io', ['-f', 'raw', '-c', 'write -P 1 0 4096', uri('one')]);
  await expect(written).rejects.toMatchObject({ code: 1 });
  await using connection = await NbdConnection.connect({ socketPath, exportName: 'one' });
  await expect(connection.write(0, Buffer.alloc(512))).rejects.toMatchObject({ errno: 'EPERM' });
});

it('refuses an export that it has not', async () => {
  await expect(NbdConnection.connect({ socketPath, exportName: 'two' })).rejects.toMatchObject({
    code: 'EXPORT_FAILED',
  });
  const { stdout } = await tool('nbdinfo', ['--json', uri('none')]);
  expect(JSON.parse(stdout).exports[0]['export-size']).toBe(0);
});

it('survives clients that talk nonsense or go away in the middle', async () => {
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from('GET / HTTP/1.0\r\n\r\n'),
    randomBytes(1000),
    Buffer.alloc(70_000, 0xff),
  ]) {
    await new Promise<void>((resolve) => {
      const socket = connect(socketPath, () => {
        socket.write(bytes);
        setTimeout(() => socket.destroy(), 20);
      });
      socket.on('error', () => undefined);
      socket.on('close', () => resolve());
    });
  }
  const half = await NbdConnection.connect({ socketPath, exportName: 'one' });
  void half.read(0, Buffer.alloc(4 * 1024 * 1024)).catch(() => undefined);
  half.destroy();
  await using connection = await NbdConnection.connect({ socketPath, exportName: 'one' });
  const all = Buffer.alloc(SIZE);
  await Promise.all(
    Array.from({ length: Math.ceil(SIZE / 65_536) }, (_, index) =>
      connection.read(index * 65_536, all.subarray(index * 65_536, (index + 1) * 65_536)),
    ),
  );
  expect(all.equals(content)).toBe(true);
});
