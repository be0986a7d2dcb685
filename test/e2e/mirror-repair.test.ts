import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { S3Store } from '../../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../support/appliance.ts';
import { sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { keysIn, newBucket, placeOf, type S3Server, sharedS3 } from '../support/s3-server.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-repair-'));
const at = (...names: string[]) => join(work, ...names);
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const bucket = newBucket();
let server: S3Server;
/** Restore points, oldest first, and what the disk was then. */
const points: { id: string; copy: string }[] = [];

const placeFor = (mirror: string) => placeOf(server, bucket, { prefix: `${mirror}/` });
async function inBucket<T>(mirror: string, work: (store: S3Store) => Promise<T>): Promise<T> {
  const store = new S3Store(placeFor(mirror));
  try {
    return await work(store);
  } finally {
    store.close();
  }
}

beforeAll(async () => {
  server = await sharedS3();
  writeFileSync(at('pass'), 'a passphrase');
  const disk = new RandomDisk(at('disk'), 13, 11);
  disk.write(40);
  await appliance.start(['chain.consolidate=false']);
  appliance.json('vm', 'add', 'web', '--disk', at('disk'));
  for (let count = 0; count < 3; count += 1) {
    if (count > 0) disk.write(8);
    copyFileSync(at('disk'), at(`copy${count}`));
    points.push({ id: operator.backUp('web').backup_id, copy: at(`copy${count}`) });
  }
  const add = (name: string, ...more: string[]) =>
    appliance.json(
      ...['mirror', 'add', name, '--endpoint', server.endpoint, '--bucket', bucket],
      ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile],
      ...['--prefix', name, '--no-auto', ...more],
    );
  add('packed', '--passphrase-file', at('pass'), '--create-bucket');
  add('plain', '--mode', 'plain');
}, 120_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const sync = (mirror: string, ...more: string[]) =>
  appliance.json<{ result: { added: number; packs: number; stored_bytes: number } }>(
    ...['mirror', 'sync', mirror, ...more],
  ).result;
/** In packed mode the largest pack is that of the full. */
const largestFirst = (mirror: string, prefix: string) =>
  inBucket(mirror, async (store) => {
    const found: { key: string; sizeBytes: number }[] = [];
    for await (const info of store.list(prefix)) found.push(info);
    return found.toSorted((a, b) => b.sizeBytes - a.sizeBytes).map(({ key }) => key);
  });
const shown = (mirror: string) =>
  appliance.json<{ points: { backup_id: string; whole: boolean }[]; damaged: string[] }>(
    ...['mirror', 'points', mirror, '--refresh'],
  );

/** All of it is there, opens, and qemu-img reads each disk as it was. */
function expectSound(mirror: string): void {
  expect(shown(mirror)).toMatchObject({ damaged: [] });
  expect(shown(mirror).points.map(({ backup_id, whole }) => [backup_id, whole])).toEqual(
    points.map(({ id }) => [id, true]).toReversed(),
  );
  const { result } = appliance.json<{ result: { problem_count: number } }>(
    ...['mirror', 'verify', mirror, '--deep', '100'],
  );
  expect(result.problem_count).toBe(0);
  for (const { id, copy } of points) {
    rmSync(at('out'), { force: true });
    appliance.json('restore', 'disk', '--backup-id', `${mirror}/${id}`, '--output', at('out'));
    sh('cmp', at('out'), copy);
  }
}

describe.each(['packed', 'plain'])('a mirror in %s mode', (mirror) => {
  const manifestOf = (point: number) => `metadata/${points[point]?.id}-disk0/manifest.json`;

  it('uploads again what somebody deleted behind its back', async () => {
    sync(mirror);
    expectSound(mirror);
    await inBucket(mirror, (store) => store.delete([manifestOf(1), manifestOf(2)]));
    expect(sync(mirror).added).toBe(2);
    expectSound(mirror);
  });

  it('lists a deleted restore point again that others stand on, without writing its rows anew', async () => {
    const { plan } = appliance.json<{ plan: string }>('mirror', 'prune', mirror, '--keep-last', '1');
    appliance.json('mirror', 'prune', mirror, '--keep-last', '1', '--apply', plan, '--yes');
    expect(shown(mirror).points).toHaveLength(1);
    const rows = `metadata/${points[0]?.id}-disk0/blocks.json`;
    const before = await inBucket(mirror, (store) => store.head(rows));
    expect(sync(mirror)).toMatchObject({ added: 0 });
    expect(sync(mirror, '--missing')).toMatchObject({ added: 2, packs: 0, stored_bytes: 0 });
    expect(await inBucket(mirror, (store) => store.head(rows))).toEqual(before);
    expectSound(mirror);
  });

  it.each([
    ['a block in the full', mirror === 'packed' ? 'packs/' : 'blocks/'],
    ['the rows of the full', 'metadata/'],
  ])('finds %s that rotted, trusts nothing that needs it, and makes it anew', async (_what, prefix) => {
    const oldest = `${points[0]?.id}-disk0`;
    const [key] = (await largestFirst(mirror, prefix)).filter((one) =>
      prefix === 'metadata/'
        ? one === `metadata/${oldest}/blocks.json`
        : mirror === 'packed' || one.includes(oldest),
    );
    await inBucket(mirror, async (store) => {
      const { body } = await store.get(key ?? '');
      body[Math.floor(body.length / 3)] = (body[Math.floor(body.length / 3)] ?? 0) ^ 1;
      await store.put(key ?? '', body);
    });
    expectFailure(appliance.ctl('mirror', 'verify', mirror, '--deep', '100'), 'MIRROR_OBJECT_DAMAGED', 20);
    expect(shown(mirror).damaged).toContain(oldest);
    // all later ones stand on it
    if (prefix === 'metadata/') expect(shown(mirror).damaged).toHaveLength(points.length);
    const { added } = sync(mirror);
    expect(added).toBeGreaterThanOrEqual(1);
    expectSound(mirror);
  });

  it('sends again what a lost object takes away', async () => {
    const keys = await keysIn(placeFor(mirror), mirror === 'packed' ? 'packs/' : 'blocks/');
    await inBucket(mirror, (store) => store.delete(keys));
    expectFailure(appliance.ctl('mirror', 'verify', mirror), 'MIRROR_OBJECT_DAMAGED', 20);
    expect(shown(mirror).damaged).toHaveLength(points.length);
    sync(mirror);
    expectSound(mirror);
  });
});

it('reads each object in its turn when only a part is read each time', () => {
  const read = [1, 2].map(
    () =>
      appliance.json<{ result: { blocks: number } }>('mirror', 'verify', 'plain', '--deep', '50').result
        .blocks,
  );
  const all = appliance.json<{ result: { blocks: number } }>('mirror', 'verify', 'plain', '--deep', '100');
  expect((read[0] ?? 0) + (read[1] ?? 0)).toBe(all.result.blocks);
  expect(Math.min(...read)).toBeGreaterThan(0);
});

it('is read with a key that may only read, and nothing more', async () => {
  const conf = join(server.folder, 'ceph.conf');
  const made = sh(
    ...(['radosgw-admin', '-c', conf, 'subuser', 'create', '--uid=sendense'] as const),
    ...[
      `--subuser=sendense:reader-${bucket}`,
      '--access=read',
      '--key-type=s3',
      '--gen-access-key',
      '--gen-secret',
    ],
  );
  const user = JSON.parse(made) as { keys: { user: string; access_key: string; secret_key: string }[] };
  const key = user.keys.find((one) => one.user.endsWith(bucket));
  writeFileSync(at('reader'), key?.secret_key ?? '');
  const reader = new TestAppliance();
  try {
    await reader.start();
    const attach = [
      ...[
        'mirror',
        'attach',
        'packed',
        '--endpoint',
        server.endpoint,
        '--bucket',
        bucket,
        '--prefix',
        'packed',
      ],
      ...['--access-key', key?.access_key ?? '', '--secret-key-file', at('reader')],
      ...['--passphrase-file', at('pass')],
    ];
    expectFailure(reader.ctl(...attach, '--take-over'), 'MIRROR_DENIED', 12);
    expect(reader.ctl(...attach).code).toBe(0);
    const last = points.at(-1);
    reader.json('restore', 'disk', '--backup-id', `packed/${last?.id}`, '--output', at('read'));
    sh('cmp', at('read'), last?.copy ?? '');
    expectFailure(reader.ctl('mirror', 'sync', 'packed'), 'MIRROR_READ_ONLY', 13);
  } finally {
    await reader.dispose();
  }
  expect(appliance.ctl('mirror', 'verify', 'packed').code).toBe(0);
});
