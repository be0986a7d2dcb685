import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk } from '../support/guest-disk.ts';
import { expectFailure } from '../support/operator.ts';
import { TlsApi } from '../support/tls-api.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-aud-'));
const at = (name: string) => join(work, name);
const appliance = new TestAppliance();
let api: TlsApi;
let backupId = '';

interface Event {
  readonly id: number;
  readonly kind: string;
  readonly actor: string | null;
  readonly origin: string | null;
  readonly data: Readonly<Record<string, unknown>>;
}
const events = (...more: string[]) =>
  appliance.json<{ events: Event[] }>('events', '--requests', '--limit', '200', ...more).events;
const newest = (kind: string) => events().find((event) => event.kind === kind);

beforeAll(async () => {
  const slice = makePlainDisk(at('disk'), 16);
  insideDisk(at('disk'), slice, (root) => writeFileSync(join(root, 'file'), bytesOf('file', 5000)));
  await appliance.start(['api.listen=127.0.0.1:0']);
  appliance.json('vm', 'add', 'web', '--disk', at('disk'));
  backupId = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'web', '--wait').backup_id;
  api = new TlsApi(appliance);
});
afterAll(async () => {
  api?.[Symbol.dispose]();
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

test('every change is there: who, from where, what, and what came of it', async () => {
  const token = api.token('ops', 'operator');
  const started = await api.ask('POST', '/backup/start', token, { vm_name: 'web', wait: true });
  expect(started.status).toBe(202);
  const { job_id } = JSON.parse(started.body) as { job_id: string };
  expect(newest('api.request')).toMatchObject({
    actor: 'token ops',
    origin: '127.0.0.1',
    data: {
      method: 'POST',
      path: '/api/v1/backup/start',
      status: 202,
      code: null,
      job_id,
      request: { vm_name: 'web' },
    },
  });
  // what the job did later was on the same behalf
  expect(newest('backup.completed')).toMatchObject({ actor: 'token ops' });
  expect((await api.ask('DELETE', `/backup/${backupId}`, token)).status).toBe(403);
  expect(newest('api.request')).toMatchObject({
    data: { method: 'DELETE', status: 403, code: 'ROLE_TOO_LOW' },
  });
  expectFailure(appliance.ctl('backup', 'delete', 'no-such-backup'), 'BACKUP_UNKNOWN', 10);
  expect(newest('api.request')).toMatchObject({
    ...{ actor: 'uid 0', origin: 'socket' },
    data: { status: 404, code: 'BACKUP_UNKNOWN', request: { backup_id: 'no-such-backup' } },
  });
});

test('every way of getting bytes out is there', async () => {
  const token = api.token('reader', 'restore');
  const mounted = await api.ask('POST', '/restore/mount', token, { backup_id: backupId });
  const { mount_id } = JSON.parse(mounted.body) as { mount_id: string };
  expect(newest('mount.opened')).toMatchObject({ actor: 'token reader', data: { mount_id } });
  const range = ['-H', 'Range: bytes=10-19'];
  appliance.rest('GET', `/api/v1/restore/${mount_id}/download?path=/file`, undefined, [range[1] ?? '']);
  expect(newest('restore.download')).toMatchObject({
    ...{ actor: 'uid 0', origin: 'socket' },
    data: { path: '/file', range: 'bytes=10-19', backup_id: backupId },
  });
  expect(newest('restore.download.ended')).toMatchObject({ data: { bytes_sent: 10, ended: 'completed' } });
  expect((await api.ask('DELETE', `/restore/${mount_id}`, token)).status).toBe(204);
  appliance.json('restore', 'disk', '--backup-id', backupId, '--output', at('out'));
  const restored = events().find(({ data }) => data['path'] === '/api/v1/restore/disk');
  expect(restored).toMatchObject({
    actor: 'uid 0',
    data: { request: { output: at('out'), backup_id: backupId } },
  });
});

test('a client of a live export is seen to come and to go', async () => {
  const live = appliance.json<{ live_id: string; socket: string }>(
    'restore',
    'live',
    '--backup-id',
    backupId,
  );
  const client = connect(live.socket);
  await new Promise((resolve) => client.once('data', resolve));
  const soon = { timeout: 20_000, interval: 250 };
  await expect
    .poll(() => newest('live.connected')?.data, soon)
    .toMatchObject({ live_id: live.live_id, clients: 1 });
  client.destroy();
  await expect.poll(() => newest('live.disconnected')?.data, soon).toMatchObject({ clients: 0 });
  expect(appliance.ctl('restore', 'live', 'remove', live.live_id).code).toBe(0);
});

test('a change of the log is found by the command, and the exit code says so', () => {
  const good = appliance.ctl('events', 'verify');
  expect(good.code, good.stderr).toBe(0);
  const anchor = /(\d+:[0-9a-f]{64})/.exec(good.stderr)?.[1] ?? '';
  expect(appliance.ctl('events', 'verify', '--anchor', anchor).code).toBe(0);
  const id = newest('backup.completed')?.id ?? 0;
  const db = new Database(join(appliance.home, 'state', 'catalog.db'));
  db.prepare('UPDATE events SET actor = ? WHERE id = ?').run('somebody else', id);
  db.close();
  const bad = appliance.ctl('events', 'verify');
  expect(bad.code).toBe(20);
  expect(bad.stdout).toMatch(new RegExp(`^${id} +changed`, 'm'));
});
