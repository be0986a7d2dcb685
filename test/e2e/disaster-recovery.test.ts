import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { blocksOf, runShell } from '../support/page-blocks.ts';
import { newBucket, sharedS3 } from '../support/s3-server.ts';

// what is destroyed in one test is what the next begins with, as on a bad day
const work = mkdtempSync(join(tmpdir(), 'sd-dr-'));
const at = (...names: string[]) => join(work, ...names);
const home = at('home');
const blocks = blocksOf('docs/disaster-recovery.md');
const original = at('original.img');
let settings: Record<string, string> = {};

/** All blocks below some headings, in one shell; the daemon that they start is stopped at their end. */
async function follow(...headings: string[]): Promise<string> {
  const texts = headings.map((heading) => {
    const found = blocks.filter((block) => block.heading === heading && block.kind === '');
    expect(found.length, heading).toBeGreaterThan(0);
    return found.map(({ text }) => text).join('\n');
  });
  const { code, output } = await runShell(texts.join('\n'), settings, 90);
  await stopDaemon('SIGTERM');
  expect([code, output]).toEqual([0, expect.anything()]);
  return output;
}

/** That of the home, whoever started it. */
async function stopDaemon(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const pidFile = at('home', 'run', 'sendensed.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8'));
  const isThere = () =>
    existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (isThere()) process.kill(pid, signal);
  for (let round = 0; isThere() && round < 300; round += 1) await sleep(100);
}

const sameAsOriginal = (name: string) => sh('cmp', at('back', name), original);

beforeAll(async () => {
  const server = await sharedS3();
  for (const folder of ['home', 'safe', 'store', 'back', 'guest']) mkdirSync(at(folder));
  writeFileSync(at('guest', 'todo.txt'), 'buy milk\n');
  writeFileSync(at('guest', 'noise'), bytesOf('noise', 3_000_000));
  sh('truncate', '-s', '32M', at('back', 'web1.img'));
  sh('mkfs.ext4', '-q', '-d', at('guest'), at('back', 'web1.img'));
  for (const [name, text] of [
    ['passphrase', 'a long passphrase\n'],
    ['s3-secret', server.secretKey],
  ] as const)
    writeFileSync(at('safe', name), text, { mode: 0o600 });
  const place = ['--endpoint', server.endpoint, '--bucket', newBucket(), '--access-key', server.accessKey];
  const secrets = [
    '--secret-key-file',
    at('safe', 's3-secret'),
    '--passphrase-file',
    at('safe', 'passphrase'),
  ];
  settings = {
    PATH: `${join(process.cwd(), 'bin')}:${process.env['PATH']}`,
    SENDENSE_HOME: home,
    SAFE: at('safe'),
    STORE: at('store'),
    MIRROR: place.join(' '),
    BACK: at('back'),
  };
  const appliance = new TestAppliance(home);
  await appliance.start();
  appliance.json('vm', 'add', 'web1', '--disk', at('back', 'web1.img'), '--label', 'tier=gold');
  appliance.json('repository', 'add', 'store', '--path', at('store'));
  appliance.json(
    'policy',
    'add',
    'nightly',
    '--label',
    'tier=gold',
    '--schedule',
    'monthly on 1 at 03:00',
    '--daily',
    '14',
  );
  appliance.json('token', 'create', 'ci', '--role', 'operator');
  appliance.json('mirror', 'add', 'offsite', ...place, ...secrets, '--create-bucket');
  for (const [round, repository] of ['local', 'store', 'local', 'store'].entries()) {
    if (round === 2)
      sh(
        'dd',
        'if=/dev/urandom',
        `of=${at('back', 'web1.img')}`,
        'bs=1M',
        'seek=20',
        'count=2',
        'conv=notrunc',
        'status=none',
      );
    appliance.json('backup', 'start', '--vm', 'web1', '--repository', repository, '--wait');
  }
  appliance.json('mirror', 'sync', 'offsite');
  sh('cp', at('back', 'web1.img'), original);
}, 150_000);
afterAll(async () => {
  await stopDaemon('SIGTERM');
  rmSync(work, { recursive: true, force: true });
});

it('names its settings, and all of them are set here', () => {
  const [block] = blocks.filter(({ kind }) => kind === 'settings');
  const named = [...(block?.text ?? '').matchAll(/^export (\w+)=/gm)].map((found) => found[1]);
  expect(named.toSorted()).toEqual(Object.keys(settings).toSorted());
});

it('keeps apart what is in no repository', async () => {
  await follow('Before: what to keep apart');
  expect(sh('tar', '-tzf', at('safe', 'home.tar.gz'))).toMatch(/master\.key[\s\S]*policies\/nightly\.json/);
  expect(readFileSync(at('safe', 'tokens.json'), 'utf8')).toContain('"ci"');
});

it('a catalogue of garbage', async () => {
  const catalog = at('home', 'state', 'catalog.db');
  for (const tail of ['-wal', '-shm']) rmSync(`${catalog}${tail}`, { force: true });
  writeFileSync(catalog, bytesOf('garbage', 65_536));
  const refused = await runShell('sendensed', settings, 30);
  expect([refused.code, refused.output]).toEqual([20, expect.stringContaining('(CATALOG_DAMAGED)')]);
  const told = await follow('The catalogue is damaged');
  expect(told).toMatch(/repository\.adopted/);
  expect(told).toMatch(/web1\S* +incremental +completed/);
  sameAsOriginal('from-catalogue.img');
});

it('a home that is gone, with a repository elsewhere', async () => {
  rmSync(home, { recursive: true });
  rmSync(at('back', 'web1.img'));
  const told = await follow('The home is lost, a repository is there', 'Tokens and policies');
  expect(told).toMatch(/web1\S* +incremental +completed/);
  sameAsOriginal('web1.img');
  expect(readFileSync(at('safe', 'ci.token'), 'utf8')).toMatch(/^sds_/);
});

it('nothing left but the mirror', async () => {
  for (const lost of ['home', 'store', 'back/web1.img']) rmSync(at(lost), { recursive: true });
  const told = await follow('Everything is lost but the mirror', 'Tokens and policies');
  expect(told).toMatch(/\+ nightly/);
  expect(told).toMatch(/web1\S* +incremental +completed/);
  sameAsOriginal('web1.img');
  sh('cmp', at('back', 'todo.txt'), at('guest', 'todo.txt'));
});
