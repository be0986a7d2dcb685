import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { expectFailure } from '../support/operator.ts';

/** Endpoints that are not those of an S3 server, as an operator meets them. */
const work = mkdtempSync(join(tmpdir(), 'sd-nohttp-'));
const appliance = new TestAppliance();
const sockets = new Set<Socket>();
let server: Server | null = null;

beforeAll(async () => {
  writeFileSync(join(work, 'secret'), 'secret');
  await appliance.start(['exports.backend=storage-daemon']);
}, 60_000);
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

async function listen(wanted: Server): Promise<number> {
  server = wanted;
  wanted.on('connection', (socket: Socket) => {
    sockets.add(socket.on('error', () => undefined));
  });
  await new Promise<void>((resolve) => {
    wanted.listen(0, '127.0.0.1', resolve);
  });
  return (wanted.address() as AddressInfo).port;
}
// not `ctl`: what answers lives in this process
const add = (endpoint: string) =>
  new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const child = appliance.spawnCtlPiped(
      ...['mirror', 'add', 'x', '--endpoint', endpoint, '--bucket', 'b', '--access-key', 'k'],
      ...['--secret-key-file', join(work, 'secret')],
    );
    let stderr = '';
    child.stderr?.on('data', (chunk) => {
      stderr += String(chunk);
    });
    child.once('close', (code) => resolve({ code: code ?? -1, stdout: '', stderr }));
  });

it('says what answered, where, and what to do', async () => {
  const port = await listen(createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.2\x07\r\nmore\r\n')));
  const told = await add(`http://127.0.0.1:${port}`);
  expectFailure(told, 'MIRROR_NOT_HTTP', 21);
  expect(told.stderr).toContain(
    `What answers at http://127.0.0.1:${port} is no HTTP server: it says "SSH-2.0-OpenSSH_9.2?"`,
  );
  expect(told.stderr).toContain(`curl -v http://127.0.0.1:${port}`);
  expect(told.stderr).not.toContain('HPE_');
});

it('knows a server that speaks TLS and was meant without', async () => {
  // a fatal alert of TLS 1.2, "protocol version": what such a server answers to a line of text
  const alert = Buffer.from([0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46]);
  const port = await listen(createServer((socket) => socket.end(alert)));
  const told = await add(`http://127.0.0.1:${port}`);
  expectFailure(told, 'MIRROR_NOT_HTTP', 21);
  expect(told.stderr).toContain('it speaks TLS; write the endpoint with https://');
});

it('knows a server that was meant with TLS and speaks none', async () => {
  const port = await listen(createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')));
  const told = await add(`https://127.0.0.1:${port}`);
  expectFailure(told, 'MIRROR_NOT_HTTP', 21);
  expect(told.stderr).toContain('it does not speak TLS; perhaps it is meant with http://');
});
