import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { S3Store } from '../../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { type Fault, S3Proxy } from '../support/s3-proxy.ts';
import { keysIn, newBucket, ownS3, placeOf } from '../support/s3-server.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-mfault-'));
const disk = join(work, 'disk');
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const bucket = newBucket();
let server: Awaited<ReturnType<typeof ownS3>>;
let proxy: S3Proxy;
let random: RandomDisk;
/** What is in the mirror, and what the disk was then. */
const points = new Map<string, string>();

const place = () => placeOf(server, bucket);
const sync = (...more: string[]) => appliance.ctl('mirror', 'sync', 'off', ...more, '-o', 'json');
const listed = () =>
  appliance
    .json<{ points: { backup_id: string; whole: boolean }[] }>('mirror', 'points', 'off', '--refresh')
    .points.filter(({ whole }) => whole)
    .map(({ backup_id }) => backup_id);

/** A restore point that the mirror has not got yet. */
function change(): string {
  random.write(6);
  const { backup_id } = operator.backUp('m');
  const copy = join(work, backup_id);
  copyFileSync(disk, copy);
  points.set(backup_id, copy);
  return backup_id;
}

/** It is listed, and is the disk as it was. */
function expectWhole(id: string): void {
  expect(listed()).toContain(id);
  const output = join(work, 'restored');
  rmSync(output, { force: true });
  appliance.json('restore', 'disk', '--backup-id', `off/${id}`, '--output', output);
  sh('cmp', output, points.get(id) ?? '');
}

/** The fault for the first `count` requests that match; null: for all. */
const spoil = (count: number | null, pattern: RegExp, fault: Fault) =>
  proxy.set({ count, pattern: pattern.source, fault });

beforeAll(async () => {
  server = await ownS3();
  proxy = await S3Proxy.start(server.port);
  random = new RandomDisk(disk, 24, 11);
  writeFileSync(join(work, 'pass'), 'a long passphrase');
  await appliance.start(['chain.consolidate=false']);
  appliance.json('vm', 'add', 'm', '--disk', disk);
  appliance.json(
    ...[
      'mirror',
      'add',
      'off',
      '--endpoint',
      proxy.endpoint,
      '--bucket',
      bucket,
      '--create-bucket',
      '--no-auto',
    ],
    ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile],
    ...['--passphrase-file', join(work, 'pass')],
  );
  change();
  expect(sync().code).toBe(0);
}, 200_000);
beforeEach(() => proxy.set(null));
afterAll(async () => {
  await appliance.dispose();
  await proxy.close();
  server[Symbol.dispose]();
  rmSync(work, { recursive: true, force: true });
});

describe('an upload goes on when', () => {
  it.each([
    [
      'requests are throttled with 503',
      3,
      / \S*\/packs\//,
      { kind: 'status', status: 503, code: 'SlowDown' },
    ],
    [
      'requests are throttled with 403',
      3,
      /^PUT /,
      { kind: 'status', status: 403, code: 'RequestLimitExceeded' },
    ],
    [
      'the server has inner errors',
      3,
      /^PUT .*(packs|metadata)/,
      { kind: 'status', status: 500, code: 'InternalError' },
    ],
    ['connections are cut in the middle of a pack', 2, /^PUT .*packs/, { kind: 'cut' }],
    ['the answer to a pack is lost', 1, /^PUT .*packs/, { kind: 'lost-answer' }],
    ['the answer to the manifest is lost', 1, /^PUT .*manifest/, { kind: 'lost-answer' }],
    ['answers are cut off', 2, /^GET .*(owner|chain)/, { kind: 'cut-answer' }],
    ['the server is slow', 6, /./, { kind: 'slow', ms: 700 }],
  ] as const)('%s', async (_what, count, pattern, fault) => {
    const id = change();
    await spoil(count, pattern, fault);
    const result = sync();
    expect([result.code, result.stderr.slice(-300)]).toEqual([0, expect.anything()]);
    await proxy.set(null);
    expectWhole(id);
  });
});

describe('a read goes on when', () => {
  it.each([
    ['requests are throttled', { kind: 'status', status: 503, code: 'SlowDown' }],
    ['answers are cut off', { kind: 'cut-answer' }],
  ] as const)('%s', async (_what, fault) => {
    const [id = ''] = listed();
    await spoil(3, /^GET .*packs/, fault);
    appliance.json('restore', 'disk', '--backup-id', `off/${id}`, '--output', join(work, 'again'), '--force');
    sh('cmp', join(work, 'again'), points.get(id) ?? '');
  });
});

describe('what cannot go on says why, and nothing half is listed', () => {
  it.each([
    [
      'the right to write is missing',
      /^PUT /,
      { kind: 'status', status: 403, code: 'AccessDenied' },
      'MIRROR_DENIED',
      12,
    ],
    [
      'the bucket is full',
      /^PUT .*packs/,
      { kind: 'status', status: 403, code: 'QuotaExceeded' },
      'MIRROR_FULL',
      21,
    ],
    [
      'the bucket is gone',
      /./,
      { kind: 'status', status: 404, code: 'NoSuchBucket' },
      'MIRROR_BUCKET_MISSING',
      10,
    ],
    [
      'the clocks differ',
      /./,
      { kind: 'status', status: 403, code: 'RequestTimeTooSkewed' },
      'MIRROR_CLOCK',
      21,
    ],
    [
      'the keys were changed',
      /./,
      { kind: 'status', status: 403, code: 'SignatureDoesNotMatch' },
      'MIRROR_CREDENTIALS',
      12,
    ],
  ] as const)('%s', async (_what, pattern, fault, code, exit) => {
    const id = change();
    await spoil(null, pattern, fault);
    expectFailure(sync(), code, exit);
    // at once: nothing that was refused is asked again
    await until('the proxy has told of it', () => proxy.seen.some((line) => pattern.test(line)));
    const refused = proxy.seen.filter((line) => pattern.test(line));
    expect(refused).toEqual([...new Set(refused)]);
    await proxy.set(null);
    expect(listed()).not.toContain(id);
    expect(sync().code).toBe(0);
    expectWhole(id);
  });

  it('a full bucket is pruned all the same', async () => {
    await spoil(null, /^PUT .*condemned/, { kind: 'status', status: 403, code: 'QuotaExceeded' });
    const { plan } = appliance.json<{ plan: string }>('mirror', 'prune', 'off', '--keep-last', '4');
    appliance.json(
      'mirror',
      'prune',
      'off',
      '--keep-last',
      '4',
      '--apply',
      plan,
      '--yes',
      '--grace-hours',
      '0',
    );
    await proxy.set(null);
    const [newest = ''] = listed();
    expectWhole(newest);
  });
});

describe('a kill', () => {
  /** Ends the program that uploads when the first request that matches comes by. */
  async function killAt(pattern: RegExp): Promise<void> {
    await spoil(1, pattern, { kind: 'kill', word: 'sendense-mirror', home: appliance.home });
    expect(sync().code).not.toBe(0);
    await proxy.set(null);
  }

  it.each([
    ['before the first pack', /^PUT .*packs/],
    ['before the rows', /^PUT .*blocks\.json/],
    ['before the chain', /^PUT .*chain\.json/],
    ['before the manifest', /^PUT .*manifest\.json/],
    ['after the manifest', /^DELETE .*uploads/],
  ] as const)('%s: nothing half is listed, and the next upload goes on', async (_when, pattern) => {
    const id = change();
    await killAt(pattern);
    const keys = await keysIn(place(), 'packs/');
    expect(sync().code).toBe(0);
    // packs that were complete are taken up again
    for (const key of keys) expect(await keysIn(place(), key)).toEqual([key]);
    expectWhole(id);
  });

  it('of the daemon leaves nothing running, and the next upload goes on', async () => {
    const id = change();
    await spoil(null, /^PUT .*packs/, { kind: 'slow', ms: 60_000 });
    appliance.rest('POST', '/api/v1/mirrors/off/sync', {});
    await until('it uploads', () => proxy.seen.some((line) => /^PUT .*packs/.test(line)));
    await appliance.kill();
    await proxy.set(null);
    await appliance.start(['chain.consolidate=false']);
    expect(appliance.processes('sendense-mirror')).toEqual([]);
    expect(sync().code).toBe(0);
    expectWhole(id);
  });

  it('of the server in the middle of an upload is survived', async () => {
    const id = change();
    const dir = server.folder;
    const command = `scripts/s3-server kill-gateway --dir ${dir}; scripts/s3-server start-gateway --dir ${dir}`;
    await spoil(1, /^PUT .*packs/, { kind: 'command', command });
    const result = sync();
    await proxy.set(null);
    if (result.code !== 0) expectFailure(result, 'MIRROR_UNREACHABLE', 21);
    expect(sync().code).toBe(0);
    expectWhole(id);
  });
});

it('leaves no upload behind in the bucket, and everything in it is good', async () => {
  expect(appliance.ctl('mirror', 'verify', 'off', '--deep', '100').code).toBe(0);
  expect(await keysIn(place(), 'uploads/')).toEqual([]);
  const store = new S3Store(place());
  expect(await store.head('repo/format.json')).not.toBeNull();
  store.close();
});
