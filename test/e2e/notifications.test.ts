import { execFileSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makePlainDisk } from '../support/guest-disk.ts';
import { expectFailure } from '../support/operator.ts';
import { freePort, SmtpServer } from '../support/smtp-server.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-note-'));
const at = (name: string) => join(work, name);
const appliance = new TestAppliance();
const SECRET = 'a key that nobody guesses';
const PASSWORD = 'pass word of the mail';

interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}
/** What others run to receive webhooks. */
class Receiver implements AsyncDisposable {
  readonly got: Received[] = [];
  status = 204;
  readonly #server: Server;
  constructor() {
    this.#server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => {
        this.got.push({ headers: request.headers, body });
        response.writeHead(this.status).end();
      });
    });
  }
  async listen(port = 0): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
    return (this.#server.address() as AddressInfo).port;
  }
  events(): { id: number; kind: string }[] {
    return this.got.map(({ body }) => (JSON.parse(body) as { event: { id: number; kind: string } }).event);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

beforeAll(async () => {
  writeFileSync(at('secret'), `${SECRET}\n`, { mode: 0o600 });
  writeFileSync(at('password'), PASSWORD, { mode: 0o600 });
  makePlainDisk(at('disk'), 8);
  await appliance.start(['api.listen=127.0.0.1:0']);
  appliance.json('vm', 'add', 'web', '--disk', at('disk'));
  appliance.json('vm', 'add', 'gone', '--disk', at('disk'), '--before', 'false');
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});
const backUp = (vm: string) => appliance.ctl('backup', 'start', '--vm', vm, '--wait');
const soon = { timeout: 20_000, interval: 50 };

test('a webhook gets what it asked for, signed, and nothing else', async () => {
  await using receiver = new Receiver();
  const url = `http://127.0.0.1:${await receiver.listen()}/hook?key=hidden`;
  appliance.json(
    'notify',
    'add',
    'webhook',
    'all',
    '--to-url',
    url,
    '--secret-file',
    at('secret'),
    '--event',
    'backup.completed',
    '--event',
    'backup.failed',
    '--severity',
    'info',
  );
  expect(appliance.ctl('notify', 'list').stdout).not.toContain('hidden');
  expect(backUp('web').code).toBe(0);
  expect(backUp('gone').code).not.toBe(0);
  await expect
    .poll(() => receiver.events().map(({ kind }) => kind), soon)
    .toEqual(['backup.completed', 'backup.failed']);
  const [first] = receiver.got;
  const timestamp = String(first?.headers['x-sendense-timestamp']);
  expect(Math.abs(Number(timestamp) - Date.now() / 1000)).toBeLessThan(60);
  const wanted = createHmac('sha256', SECRET).update(`${timestamp}.${first?.body}`).digest('hex');
  expect(first?.headers['x-sendense-signature']).toBe(`v1=${wanted}`);
  expect(JSON.parse(first?.body ?? '')).toMatchObject({
    delivery_id: first?.headers['x-sendense-delivery'],
    event: { kind: 'backup.completed', severity: 'info', actor: 'uid 0' },
  });
  expect(appliance.ctl('notify', 'remove', 'all').code).toBe(0);
});

test('what is down gets it later, in order, also after a kill and a restart of the appliance', async () => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  appliance.json(
    'notify',
    'add',
    'webhook',
    'later',
    '--to-url',
    url,
    '--secret-file',
    at('secret'),
    '--event',
    'backup.*',
    '--severity',
    'error',
  );
  expectFailure(appliance.ctl('notify', 'test', 'later'), 'NOTIFY_FAILED', 21);
  backUp('gone');
  backUp('gone');
  const waiting = () =>
    appliance.json<{ waiting: number; last_error: string | null }>('notify', 'show', 'later');
  await expect
    .poll(waiting, soon)
    .toMatchObject({ waiting: 2, last_error: expect.stringContaining('ECONNREFUSED') });
  expect(appliance.rest('GET', '/api/v1/metrics').body).toContain('sendense_notifications_pending 1');
  await appliance.kill();
  await appliance.start();
  await using receiver = new Receiver();
  receiver.status = 503;
  await receiver.listen(port);
  await expect.poll(() => receiver.got.length, soon).toBeGreaterThan(0);
  receiver.status = 200;
  await expect.poll(waiting, soon).toMatchObject({ waiting: 0, given_up: 0 });
  const ids = [...new Set(receiver.events().map(({ id }) => id))];
  expect(ids.length).toBe(2);
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  // each attempt of one bears the same name
  expect(new Set(receiver.got.map(({ headers }) => headers['x-sendense-delivery'])).size).toBe(2);
  expect(appliance.ctl('notify', 'remove', 'later').code).toBe(0);
});

test('what is refused for good is given up and said', async () => {
  await using receiver = new Receiver();
  receiver.status = 400;
  const url = `http://127.0.0.1:${await receiver.listen()}/`;
  appliance.json(
    'notify',
    'add',
    'webhook',
    'no',
    '--to-url',
    url,
    '--secret-file',
    at('secret'),
    '--event',
    'backup.failed',
  );
  backUp('gone');
  const shown = () => appliance.json('notify', 'show', 'no');
  await expect.poll(shown, soon).toMatchObject({ waiting: 0, given_up: 1, last_error: 'it answered 400' });
  const { events } = appliance.json<{ events: { kind: string; subject: string }[] }>('events');
  expect(events).toContainEqual(expect.objectContaining({ kind: 'notify.failed', subject: 'no' }));
  expect(receiver.got.length).toBe(1);
  expect(appliance.ctl('notify', 'remove', 'no').code).toBe(0);
});

/** As another program reads it. */
const subjectOf = (mail: string): string =>
  execFileSync(
    '/usr/bin/python3',
    [
      '-c',
      'import sys, email, email.policy\nprint(email.message_from_file(sys.stdin, policy=email.policy.default)["subject"])',
    ],
    { input: mail, encoding: 'utf8' },
  );
const mails = (folder: string): string[] =>
  existsSync(join(folder, 'new'))
    ? readdirSync(join(folder, 'new')).map((name) => readFileSync(join(folder, 'new', name), 'utf8'))
    : [];

test('a mail server of others takes the mails, over TLS and with a password', async () => {
  const certificate = {
    cert: join(appliance.home, 'state/api/own.crt'),
    key: join(appliance.home, 'state/api/own.key'),
  };
  await using server = await SmtpServer.start({
    folder: at('tls'),
    certificate,
    user: 'backup',
    password: PASSWORD,
  });
  const common = ['--host', 'localhost', '--port', String(server.port), '--from', 'sendense@example.org'];
  const login = ['--user', 'backup', '--password-file', at('password'), '--ca-file', certificate.cert];
  const to = ['--to', 'ops@example.org', '--to', 'boss@example.org', '--event', 'backup.failed'];
  appliance.json('notify', 'add', 'smtp', 'mail', ...common, ...login, ...to);
  expect(appliance.ctl('notify', 'test', 'mail').stderr).toContain('The test was sent');
  backUp('gone');
  await expect.poll(() => mails(at('tls')).length, soon).toBe(2);
  const failed = mails(at('tls')).find((mail) => mail.includes('backup.failed')) ?? '';
  expect(failed).toMatch(/^To: ops@example.org, boss@example.org$/im);
  expect(subjectOf(failed)).toMatch(
    /^\[sendense .*\] error: Backup backup-gone-\d+ failed: The before command of "gone" failed/,
  );
  expect(failed).toMatch(/^Auto-Submitted: auto-generated$/im);
  // a server that nobody vouches for gets neither the password nor the mail
  expect(appliance.ctl('notify', 'remove', 'mail').code).toBe(0);
  appliance.json('notify', 'add', 'smtp', 'mail', ...common, ...login.slice(0, 4), ...to);
  expectFailure(appliance.ctl('notify', 'test', 'mail'), 'NOTIFY_FAILED', 21);
  expect(mails(at('tls')).length).toBe(2);
  expect(appliance.ctl('notify', 'remove', 'mail').code).toBe(0);
});

test('what would give a secret away is refused', () => {
  const smtp = [
    'notify',
    'add',
    'smtp',
    'x',
    '--host',
    'localhost',
    '--from',
    'a@example.org',
    '--to',
    'b@example.org',
  ];
  const user = ['--user', 'u', '--password-file', at('password')];
  expectFailure(appliance.ctl(...smtp, ...user, '--security', 'none'), 'REQUEST_INVALID', 2);
  writeFileSync(at('open'), 'x', { mode: 0o644 });
  const webhook = ['notify', 'add', 'webhook', 'x', '--to-url', 'https://example.org', '--secret-file'];
  const refused = appliance.ctl(...webhook, at('open'));
  expectFailure(refused, 'NOTIFY_FAILED', 21);
  expect(refused.stderr).toContain('chmod 600');
  expectFailure(appliance.ctl(...webhook, at('secret'), '--to-url-file', at('secret')), 'REQUEST_INVALID', 2);
});
