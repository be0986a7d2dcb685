import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makePlainDisk } from '../support/guest-disk.ts';
import { expectFailure, until } from '../support/operator.ts';
import { SeenCommands } from '../support/seen-commands.ts';
import { TlsApi } from '../support/tls-api.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-sec-'));
const at = (name: string) => join(work, name);
const appliance = new TestAppliance();
/** Each in a place where it belongs, and to be found nowhere else. */
const secrets = {
  webhook: 'wH-7f3a "quoted" secret of the webhook',
  url: 'T0PSECRETPATH',
  mail: 'mail-Passw0rd-91',
  mirror: 'mirrorSecretKey/abc+def=42',
  passphrase: 'luks-passphrase-5150',
  token: '',
  rotated: '',
};
let commands: SeenCommands;
const bundle = at('support.tar.zst');
const api: { of: TlsApi | null } = { of: null };
let jobId = '';

beforeAll(async () => {
  commands = await SeenCommands.start();
  for (const [name, text] of Object.entries(secrets))
    writeFileSync(at(`secret.${name}`), text, { mode: 0o600 });
  makePlainDisk(at('disk'), 8);
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => response.writeHead(500).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await appliance.start(['api.listen=127.0.0.1:0', 'log.level=trace']);
  api.of = new TlsApi(appliance);
  secrets.token = api.of.token('known', 'admin');
  secrets.rotated = appliance.json<{ token: string }>('token', 'rotate', 'known').token;
  await api.of.ask('GET', '/vms', secrets.token);
  await api.of.ask('GET', '/no-such', secrets.rotated);
  writeFileSync(at('url'), `http://127.0.0.1:${port}/${secrets.url}`, { mode: 0o600 });
  const hook = ['--to-url-file', at('url'), '--secret-file', at('secret.webhook'), '--severity', 'info'];
  appliance.json('notify', 'add', 'webhook', 'hook', ...hook);
  const plain = `http://127.0.0.1:${port}/${secrets.url}`;
  appliance.rest('POST', '/api/v1/notify/targets', {
    name: 'plain',
    place: { kind: 'webhook', url: plain, secret_file: at('secret.webhook') },
  });
  const mail = ['--host', '127.0.0.1', '--port', '1', '--from', 'a@example.org', '--to', 'b@example.org'];
  appliance.json(
    'notify',
    'add',
    'smtp',
    'mail',
    ...mail,
    '--user',
    'me',
    '--password-file',
    at('secret.mail'),
  );
  // not waited for in this thread: the server that answers is here too
  for (const name of ['hook', 'plain', 'mail'])
    expect(await once(appliance.spawnCtl('notify', 'test', name), 'exit')).toEqual([21, null]);
  const place = {
    endpoint: 'http://127.0.0.1:1',
    bucket: 'b',
    access_key: 'k',
    secret_key_file: at('secret.mirror'),
  };
  appliance.rest('POST', '/api/v1/mirrors', { name: 'm', ...place });
  appliance.json('vm', 'add', 'web', '--disk', at('disk'));
  const backup = appliance.json<{ backup_id: string; job_id: string }>(
    'backup',
    'start',
    '--vm',
    'web',
    '--wait',
  );
  jobId = backup.job_id;
  const mounted = { backup_id: backup.backup_id, passphrases: [secrets.passphrase] };
  appliance.rest('POST', '/api/v1/restore/mount', mounted);
  // refused with what was sent in it
  appliance.rest('POST', '/api/v1/restore/mount', { ...mounted, wrong: secrets.passphrase });
  appliance.json('support-bundle', '--output', bundle);
  await new Promise((resolve) => server.close(resolve));
});
afterAll(async () => {
  await commands.close();
  api.of?.[Symbol.dispose]();
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const found = (text: string): string[] =>
  Object.entries(secrets).flatMap(([name, secret]) => {
    const forms = [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)];
    return forms.some((form) => text.includes(form)) ? [name] : [];
  });

test('no secret stands in the log', () => {
  const log = readFileSync(appliance.logFile, 'utf8');
  expect(log.length).toBeGreaterThan(1000);
  expect(found(log)).toEqual([]);
});

test('no secret stands in the arguments of a process', async () => {
  const lines = await commands.lines();
  // it has looked while our programs and those that they start were at work
  for (const word of ['sendense-ctl', 'sendense-mover', 'qemu-storage-daemon', bundle])
    expect(lines.filter((line) => line.includes(word))).not.toEqual([]);
  // curl of this test says on its own what it sends; nothing of ours may
  expect(found(lines.filter((line) => !line.startsWith('curl\0')).join('\n'))).toEqual([]);
});

test.each([
  ['config', 'show'],
  ['notify', 'list'],
  ['token', 'list', '--all'],
  ['events', '--requests', '--limit', '1000'],
  ['doctor'],
  ['mirror', 'list'],
])('no secret is shown by %s %s', (...args) => {
  const { stdout, stderr } = appliance.ctl(...args, '-o', 'json');
  expect(stdout.length + stderr.length).toBeGreaterThan(10);
  expect(found(stdout + stderr)).toEqual([]);
});

test('a support bundle has what is needed, and no secret', async () => {
  expect(statSync(bundle).mode & 0o777).toBe(0o600);
  mkdirSync(at('unpacked'));
  expect(spawnSync('tar', ['--zstd', '-xf', bundle, '-C', at('unpacked')]).status).toBe(0);
  const folder = at('unpacked/sendense-support');
  const names = readdirSync(folder).toSorted();
  expect(names).toEqual([
    ...['catalogue.json', 'doctor.json', 'events.json', 'jobs.json', 'log.txt', 'os-release.txt'],
    ...['settings.json', 'versions.json'],
  ]);
  const all = names.map((name) => readFileSync(join(folder, name), 'utf8'));
  expect(found(all.join('\n'))).toEqual([]);
  const parsed = JSON.parse(readFileSync(join(folder, 'catalogue.json'), 'utf8')) as {
    rows: Record<string, number>;
  };
  expect(parsed.rows).toMatchObject({ vm_contexts: 1, backup_jobs: 1, notify_targets: 3 });
  expect(readFileSync(join(folder, 'jobs.json'), 'utf8')).toContain(jobId);
  expect(readFileSync(join(folder, 'log.txt'), 'utf8')).toContain('"msg":"ready"');
  expectFailure(appliance.ctl('support-bundle', '--output', bundle), 'OUTPUT_EXISTS', 13);
  const left = () => readdirSync(join(appliance.home, 'run')).filter((name) => name.startsWith('support-'));
  await until('the folder of the refused one is gone', () => left().length === 0);
});

test('each line of the log about a job bears its id', () => {
  const lines = readFileSync(appliance.logFile, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as { kind?: string; job_id?: string });
  const ofBackup = lines.filter(({ kind }) => kind?.startsWith('backup.'));
  expect(ofBackup.length).toBeGreaterThan(0);
  expect(ofBackup.map(({ job_id }) => job_id)).toEqual(ofBackup.map(() => jobId));
  expect(lines.some(({ kind, job_id }) => kind === 'daemon.started' && job_id !== undefined)).toBe(false);
});
