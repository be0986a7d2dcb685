import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sha256 } from '../support/guest-disk.ts';
import { expectFailure } from '../support/operator.ts';
import { TlsApi } from '../support/tls-api.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-acc-'));
const at = (name: string) => join(work, name);
const appliance = new TestAppliance();
const content = { web: bytesOf('web', 5 * 1024 * 1024), db: bytesOf('db', 1000) };
const ids: Record<string, string> = {};
let api: TlsApi;
const settings = [
  'api.listen=127.0.0.1:0',
  `api.restore_folders=${at('allowed')}`,
  'mounts.download_mib_per_s=1',
];

beforeAll(async () => {
  mkdirSync(at('allowed'));
  symlinkSync('/etc', at('allowed/out'));
  await appliance.start(settings);
  for (const name of ['web', 'db'] as const) {
    const slice = makePlainDisk(at(name), 16);
    insideDisk(at(name), slice, (root) => writeFileSync(join(root, 'file'), content[name]));
    appliance.json('vm', 'add', name, '--disk', at(name));
    ids[name] = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', name, '--wait').backup_id;
  }
  api = new TlsApi(appliance);
});
afterAll(async () => {
  api?.[Symbol.dispose]();
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

interface Problem {
  readonly code?: string;
}
const problem = ({ status, body }: { status: number; body: string }) => [
  status,
  (JSON.parse(body) as Problem).code,
];

describe('a token of one machine', () => {
  let token = '';
  const ask = (method: string, path: string, body?: unknown) => api.ask(method, path, token, body);
  beforeAll(() => {
    token = api.token('narrow', 'restore', '--vm', 'web');
  });

  it('sees this machine and no other, in lists and by name', async () => {
    const names = async (path: string, list: string) =>
      (JSON.parse((await ask('GET', path)).body) as Record<string, { name?: string; vm_name?: string }[]>)[
        list
      ]?.map((row) => row.name ?? row.vm_name);
    expect(await names('/vms', 'vms')).toEqual(['web']);
    expect(await names('/backup/list', 'backups')).toEqual(['web']);
    expect(new Set(await names('/jobs', 'jobs'))).toEqual(new Set(['web']));
    expect((await ask('GET', '/vms/web')).status).toBe(200);
    expect(problem(await ask('GET', '/vms/db'))).toEqual([404, 'VM_UNKNOWN']);
    expect(problem(await ask('GET', '/vms/no-such'))).toEqual([404, 'VM_UNKNOWN']);
    expect(problem(await ask('GET', '/backup/list?vm_name=db'))).toEqual([404, 'VM_UNKNOWN']);
    expect((await ask('GET', `/backup/${ids['web']}`)).status).toBe(200);
    expect(problem(await ask('GET', `/backup/list?cursor=${ids['db']}`))).toEqual([400, 'REQUEST_INVALID']);
    // in full, by its beginning, and as the newest of all, which is the other's
    for (const name of [ids['db'], ids['db']?.slice(0, 12), 'latest:db', 'latest', 'backup-'])
      expect(problem(await ask('GET', `/backup/${name}`)), name).toEqual([404, 'BACKUP_UNKNOWN']);
    const { jobs } = appliance.json<{ jobs: { job_id: string; vm_name: string }[] }>('job', 'list');
    const other = jobs.find((job) => job.vm_name === 'db')?.job_id;
    expect(problem(await ask('GET', `/jobs/${other}`))).toEqual([404, 'JOB_UNKNOWN']);
    expect(problem(await ask('GET', '/events'))).toEqual([403, 'SCOPE_TOO_NARROW']);
  });

  it('is for the machines that bear its labels now, and cannot give them to others', async () => {
    const labelled = api.token('labelled', 'operator', '--label', 'team=shop');
    const seen = async () =>
      (JSON.parse((await api.ask('GET', '/vms', labelled)).body) as { vms: { name: string }[] }).vms.map(
        ({ name }) => name,
      );
    expect(await seen()).toEqual([]);
    appliance.json('vm', 'set', 'db', '--label', 'team=shop');
    expect(await seen()).toEqual(['db']);
    expect((await api.ask('GET', `/backup/${ids['db']}`, labelled)).status).toBe(200);
    expect(problem(await api.ask('GET', `/backup/${ids['web']}`, labelled))).toEqual([404, 'BACKUP_UNKNOWN']);
    const labels = { labels: { team: 'shop' } };
    for (const vm of ['web', 'db'])
      expect(problem(await api.ask('PATCH', `/vms/${vm}`, labelled, labels))).toEqual([403, 'ROLE_TOO_LOW']);
    appliance.json('vm', 'set', 'db', '--label', 'team=other');
    expect(await seen()).toEqual([]);
  });

  it('gets its files out, the same as they went in, and no others', async () => {
    const mounted = await ask('POST', '/restore/mount', { backup_id: 'latest:web' });
    expect(mounted.status, mounted.body).toBe(201);
    const { mount_id } = JSON.parse(mounted.body) as { mount_id: string };
    const out = at('taken');
    const file = join(api.folder, 'narrow');
    writeFileSync(file, token);
    const where = ['--url', `https://${api.address}`, '--token-file', file, '--fingerprint', api.fingerprint];
    const extract = [
      'backup',
      'extract',
      '--backup-id',
      ids['web'] ?? '',
      '--file',
      '/file',
      '--output',
      out,
    ];
    const result = new TestAppliance('/nonexistent', '/dev/null').ctl(...where, ...extract);
    expect(result.code, result.stderr).toBe(0);
    expect(sha256(readFileSync(out))).toBe(sha256(content.web));
    expect(problem(await ask('POST', '/restore/mount', { backup_id: ids['db'] }))).toEqual([
      404,
      'BACKUP_UNKNOWN',
    ]);
    const theirs = appliance.json<{ mount_id: string }>(
      'backup',
      'mount',
      '--backup-id',
      ids['db'] ?? '',
    ).mount_id;
    for (const path of ['files', 'stat?path=/file', 'download?path=/file'])
      expect(problem(await ask('GET', `/restore/${theirs}/${path}`))).toEqual([404, 'MOUNT_UNKNOWN']);
    expect(problem(await ask('DELETE', `/restore/${theirs}`))).toEqual([404, 'MOUNT_UNKNOWN']);
    const shown = JSON.parse((await ask('GET', '/restore/mounts')).body) as {
      mounts: { mount_id: string }[];
    };
    expect(shown.mounts.map((mount) => mount.mount_id)).toEqual([mount_id]);
    expect((await ask('DELETE', `/restore/${mount_id}`)).status).toBe(204);
    expect(appliance.ctl('mount', 'remove', theirs).code).toBe(0);
    const { events } = appliance.json<{ events: Record<string, unknown>[] }>('events');
    expect(events.find(({ kind }) => kind === 'restore.download')).toMatchObject({
      actor: 'token narrow',
      origin: '127.0.0.1',
      data: { path: '/file', backup_id: ids['web'] },
    });
  });

  it('has the appliance write where it may, and nowhere else', async () => {
    const restore = (output: string) => ask('POST', '/restore/disk', { backup_id: ids['web'], output });
    for (const place of [
      '/etc/cron.d/x',
      at('allowed/out/x'),
      at('allowed'),
      at('allowed/../x'),
      'nbd://127.0.0.1/x',
    ])
      expect(problem(await restore(place)), place).toEqual([403, 'OUTPUT_NOT_ALLOWED']);
    const mount = await ask('POST', '/restore/mount', { backup_id: ids['web'], path: '/etc' });
    expect(problem(mount)).toEqual([403, 'OUTPUT_NOT_ALLOWED']);
    const { status, body } = await restore(at('allowed/disk'));
    expect(status, body).toBe(202);
    const { job_id } = JSON.parse(body) as { job_id: string };
    const done = api.ctl(token, '--fingerprint', api.fingerprint, 'job', 'watch', job_id);
    expect(done.code, done.stderr).toBe(0);
    expect(sha256(readFileSync(at('allowed/disk')))).toBe(sha256(readFileSync(at('web'))));
  });
});

/** Begins a download that takes its time. @returns what ends it, and how it ended */
async function slowDownload(token: string): Promise<{ ended: Promise<string>; gone: () => void }> {
  const mounted = await api.ask('POST', '/restore/mount', token, { backup_id: 'latest:web' });
  const { mount_id } = JSON.parse(mounted.body) as { mount_id: string };
  const headers = { Authorization: `Bearer ${token}` };
  const url = `https://${api.address}/api/v1/restore/${mount_id}/download?path=/file`;
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const ended = new Promise<string>((resolve) => {
    const sent = request(url, { headers, rejectUnauthorized: false, agent: false }, (answer) => {
      answer.once('data', () => begin());
      answer.on('end', () => resolve(answer.complete ? 'complete' : 'cut'));
      answer.on('error', () => resolve('cut'));
    });
    sent.on('error', () => resolve('cut'));
    sent.end();
  });
  await begun;
  return { ended, gone: () => void appliance.ctl('mount', 'remove', mount_id) };
}

describe('the end of a token', () => {
  it.each(['revoke', 'rotate'])('%s ends what is open, and the secret', async (verb) => {
    const token = api.token(`short-${verb}`, 'restore');
    const { ended, gone } = await slowDownload(token);
    const next = appliance.json<{ token?: string }>('token', verb, `short-${verb}`);
    expect(await Promise.race([ended, sleep(2000).then(() => 'still open')])).toBe('cut');
    expect(problem(await api.ask('GET', '/vms', token))).toEqual([401, 'TOKEN_REFUSED']);
    if (verb === 'rotate') expect((await api.ask('GET', '/vms', next.token ?? '')).status).toBe(200);
    gone();
  });

  it('comes by itself, also in the middle of a download', async () => {
    const made = appliance.rest('POST', '/api/v1/tokens', { name: 'brief', role: 'restore', expires_s: 3 });
    const { token } = JSON.parse(made.body) as { token: string };
    const { ended, gone } = await slowDownload(token);
    expect(await ended).toBe('cut');
    expect(problem(await api.ask('GET', '/vms', token))).toEqual([401, 'TOKEN_REFUSED']);
    gone();
  });

  it('leaves nothing of a secret in the catalogue', () => {
    const secret = api.token('kept', 'viewer');
    const stored = ['catalog.db', 'catalog.db-wal'].map((name) =>
      readFileSync(join(appliance.home, 'state', name)).includes(secret.slice(17)),
    );
    expect(stored).toEqual([false, false]);
  });
});

/** From one of the addresses that this machine has to itself. */
const from = (
  localAddress: string,
  token: string,
): Promise<{ status: number; retryAfter: string | undefined }> =>
  new Promise((resolve, reject) => {
    const headers = { Authorization: `Bearer ${token}` };
    const options = { headers, localAddress, rejectUnauthorized: false, agent: false as const };
    request(`https://${api.address}/api/v1/vms`, options, (answer) => {
      answer.resume();
      answer.on('end', () =>
        resolve({ status: answer.statusCode ?? 0, retryAfter: answer.headers['retry-after'] }),
      );
    })
      .on('error', reject)
      .end();
  });

it('who guesses has to wait, and nobody else', async () => {
  const good = api.token('good', 'viewer');
  const wrong = `${good.slice(0, -4)}AAAA`;
  for (let n = 0; n < 10; n += 1) expect((await from('127.0.0.2', wrong)).status).toBe(401);
  const limited = await from('127.0.0.2', good);
  expect(limited.status).toBe(429);
  expect(Number(limited.retryAfter)).toBeGreaterThan(0);
  expect(Number(limited.retryAfter)).toBeLessThanOrEqual(60);
  expect((await from('127.0.0.3', good)).status).toBe(200);
  expect(appliance.ctl('vm', 'list').code).toBe(0);
  const { events } = appliance.json<{ events: { kind: string; data: { from: string } }[] }>('events');
  const refusals = events.filter(({ kind, data }) => kind === 'access.refused' && data.from === '127.0.0.2');
  expect(refusals.length).toBe(10);
});

it('tells a secret once, also when the request comes again', () => {
  const twice = () => {
    const body = { name: 'once', role: 'viewer' };
    return JSON.parse(
      appliance.rest('POST', '/api/v1/tokens', body, ['Idempotency-Key: k1']).body,
    ) as Problem & {
      name: string;
      token: string | null;
    };
  };
  const [first, second] = [twice(), twice()];
  expect(first.token).toMatch(/^sds_/);
  expect(second).toEqual({ ...first, token: null });
});

describe('the way in', () => {
  it('is TLS 1.2 or newer', async () => {
    const [host = '', port = ''] = api.address.split(':');
    const version = (max: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3') =>
      new Promise<string | null>((resolve) => {
        const options = { minVersion: 'TLSv1' as const, maxVersion: max, rejectUnauthorized: false };
        const socket = connect({ host, port: Number(port), ciphers: 'ALL:@SECLEVEL=0', ...options }, () => {
          resolve(socket.getProtocol());
          socket.destroy();
        });
        socket.on('error', () => resolve(null));
      });
    expect([await version('TLSv1.1'), await version('TLSv1.2'), await version('TLSv1.3')]).toEqual([
      null,
      'TLSv1.2',
      'TLSv1.3',
    ]);
  });

  it('is known by its certificate, or nothing is said', () => {
    const token = api.token('pinned', 'viewer');
    const wrong = api.fingerprint.replace(/^../, (digits) => (digits === '00' ? '01' : '00'));
    expectFailure(api.ctl(token, '--fingerprint', wrong, 'vm', 'list'), 'CERTIFICATE_MISMATCH', 12);
    expectFailure(api.ctl(token, 'vm', 'list'), 'CERTIFICATE_MISMATCH', 12);
    expect(
      api.ctl(token, '--ca', join(appliance.home, 'state/api/own.crt'), 'vm', 'list', '-o', 'name').stdout,
    ).toBe('db\nweb\n');
  });

  it('is, on this machine, a socket for one group', () => {
    expect(statSync(join(appliance.home, 'run', 'sendensed.sock')).mode & 0o777).toBe(0o660);
    expect(statSync(join(appliance.home, 'state/api/own.key')).mode & 0o777).toBe(0o600);
  });
});

it('keeps its certificate over a restart; or takes the one that it is given', async () => {
  const folder = join(appliance.home, 'state/api');
  const known = api.fingerprint;
  await appliance.stop();
  const own = [`api.tls_certificate=${folder}/own.crt`, `api.tls_key=${folder}/own.key`];
  writeFileSync(at('no.key'), 'none');
  const wrong = ['--set', own[0] ?? '', '--set', `api.tls_key=${at('no.key')}`];
  await expect(appliance.start([...settings, ...wrong.filter((text) => text !== '--set')])).rejects.toThrow(
    'CONFIG_INVALID',
  );
  await appliance.start([...settings, ...own, 'api.socket_group=nogroup']);
  using again = new TlsApi(appliance);
  expect(again.fingerprint).toBe(known);
  const [folderOf, socket] = ['run', 'run/sendensed.sock'].map((name) =>
    statSync(join(appliance.home, name)),
  );
  expect(socket?.gid).toBe(65_534);
  expect([folderOf?.gid, (folderOf?.mode ?? 0) & 0o777]).toEqual([65_534, 0o710]);
});
