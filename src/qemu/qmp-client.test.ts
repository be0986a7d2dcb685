import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { QmpClient } from './qmp-client.ts';

it('connects again when a monitor never greets', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sd-qmp-'));
  const path = join(folder, 'qmp.sock');
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    // QEMU loses the first client in the moment in which it hands its monitor to another thread
    if (connections === 1) return;
    socket.write('{"QMP": {}}\r\n');
    socket.on('data', (line) => {
      const { id } = JSON.parse(String(line)) as { id: number };
      socket.write(`{"return": {}, "id": ${id}}\r\n`);
    });
  });
  try {
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await using client = await QmpClient.connect(path);
    expect(await client.execute('query-status')).toEqual({});
    expect(connections).toBe(2);
  } finally {
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
