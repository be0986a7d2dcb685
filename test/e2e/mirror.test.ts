import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Capabilities } from '../../src/mirror/store/object-store.ts';
import { S3Store } from '../../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';
import { keysIn, newBucket, placeOf, type S3Server, sharedS3 } from '../support/s3-server.ts';

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-mirror-'));
const at = (...names: string[]) => join(work, ...names);
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const bucket = newBucket();
let server: S3Server;
/** Restore points, oldest first, and what each disk was then. */
const points: { id: string; disks: string[] }[] = [];

const mirrorArgs = (more: readonly string[] = []) => [
  ...['--endpoint', server.endpoint, '--bucket', bucket, '--access-key', server.accessKey],
  ...['--secret-key-file', server.secretKeyFile, ...more],
];
const encrypted = () => ['--prefix', 'packed', '--passphrase-file', at('pass')];
const plain = () => ['--prefix', 'plain'];

function remember(): void {
  const disks = ['a', 'b'].map((name) => {
    const copy = at(`${name}-${points.length}`);
    copyFileSync(at(name), copy);
    return copy;
  });
  points.push({ id: operator.backUp('web').backup_id, disks });
}

/** Every restore point, read back from the bucket by qemu-img, is the disk as it was. */
function expectAll(reader: TestAppliance, mirror: string, expected = points): void {
  for (const { id, disks } of expected)
    for (const [index, disk] of disks.entries()) {
      const output = at('restored');
      rmSync(output, { force: true });
      reader.json(
        ...['restore', 'disk', '--backup-id', `${mirror}/${id}`, '--disk', String(index)],
        ...['--output', output],
      );
      sh('cmp', output, disk);
    }
}

beforeAll(async () => {
  server = await sharedS3();
  writeFileSync(at('pass'), 'correct horse battery staple\n');
  insideDisk(at('a'), makePlainDisk(at('a'), 48), (root) => {
    writeFileSync(join(root, 'file'), bytesOf('file', 5 * MIB));
    writeFileSync(join(root, 'hello'), 'hello from the guest\n');
  });
  await appliance.start(['chain.consolidate=false']);
  // not a whole number of rows
  const random = new RandomDisk(at('b'), 13, 7);
  random.write(10);
  appliance.json('vm', 'add', 'web', '--disk', at('a'), '--disk', at('b'));
  remember();
  appliance.json('mirror', 'add', 'off', ...mirrorArgs([...encrypted(), '--create-bucket']));
  appliance.json('mirror', 'add', 'plain', ...mirrorArgs([...plain(), '--mode', 'plain', '--no-auto']));
  for (let count = 0; count < 3; count += 1) {
    random.write(10);
    sh('debugfs', '-w', '-R', `write ${at('pass')} more${count}`, at('a'));
    remember();
  }
  appliance.json('mirror', 'sync', 'off');
  appliance.json('mirror', 'sync', 'plain');
}, 240_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const listed = (reader: TestAppliance, mirror: string) =>
  reader.json<{ points: { backup_id: string; whole: boolean }[] }>('mirror', 'points', mirror, '--refresh')
    .points;

describe('a mirror', () => {
  it('has every restore point, whole, and each can be read from the bucket', () => {
    for (const mirror of ['off', 'plain'])
      expect(listed(appliance, mirror).map(({ backup_id, whole }) => [backup_id, whole])).toEqual(
        points.map(({ id }) => [id, true]).toReversed(),
      );
    expectAll(appliance, 'off');
    expectAll(appliance, 'plain');
  });

  it('shows nothing of the disks when it is encrypted', async () => {
    const place = placeOf(server, bucket, { prefix: 'packed/' });
    const store = new S3Store(place);
    for (const key of await keysIn(place, 'packs/')) {
      const { body } = await store.get(key);
      expect(body.includes('hello from the guest')).toBe(false);
    }
    const [rows] = await keysIn(place, `metadata/${points[0]?.id}-disk0/blocks.json`);
    expect((await store.get(rows ?? '')).body.toString('latin1')).not.toContain('offset');
    // nor what the repository knows of the machine
    const { body } = await store.get(`metadata/${points[0]?.id}-disk0/manifest.json`);
    expect(body.toString()).not.toContain(at('a'));
    store.close();
  });

  it('in plain mode is restored by any S3 client and dd, as the layout says', async () => {
    const place = placeOf(server, bucket, { prefix: 'plain/' });
    const store = new S3Store(place);
    const [first, second] = points;
    const expected = readFileSync(second?.disks[1] ?? '');
    const rebuilt = Buffer.alloc(expected.length);
    for (const { id } of [first, second].filter((point) => point !== undefined)) {
      const { body } = await store.get(`metadata/${id}-disk1/blocks.json`);
      const { blocks } = JSON.parse(body.toString()) as {
        blocks: { offset: number; size: number; zero?: boolean }[];
      };
      for (const { offset, size, zero } of blocks) {
        if (zero) rebuilt.fill(0, offset, offset + size);
        else (await store.get(`blocks/${id}-disk1/block-${offset}-${size}`)).body.copy(rebuilt, offset);
      }
    }
    store.close();
    expect(rebuilt.equals(expected)).toBe(true);
    const manifest = JSON.parse(
      (await new S3Store(place).get(`metadata/${second?.id}-disk1/manifest.json`)).body.toString(),
    ) as Record<string, unknown>;
    expect(manifest).toMatchObject({
      name: `${second?.id}-disk1`,
      volumeSize: expected.length,
      isIncremental: true,
      blockSize: MIB,
      volumeMode: 'Block',
    });
  });

  it('uploads nothing twice', () => {
    const { result } = appliance.json<{ result: Record<string, number> }>(
      'mirror',
      'sync',
      'off',
      '--missing',
    );
    expect(result).toMatchObject({ added: 0, stored_bytes: 0 });
  });

  it('is mounted without being downloaded', () => {
    const { mount_id, mount_path } = appliance.json<{ mount_id: string; mount_path: string }>(
      ...['backup', 'mount', '--backup-id', 'off/latest:web', '--disk', '0'],
    );
    expect(readFileSync(join(mount_path, 'disk0', 'hello'), 'utf8')).toBe('hello from the guest\n');
    expect(readFileSync(join(mount_path, 'disk0', 'file')).equals(bytesOf('file', 5 * MIB))).toBe(true);
    appliance.json('mount', 'remove', mount_id);
    expect(appliance.processes('sendense-mirror')).toEqual([]);
  });

  it('is served live, and a client reads what was backed up', () => {
    const { live_id, disks } = appliance.json<{ live_id: string; disks: { connect: { uri: string } }[] }>(
      ...['restore', 'live', '--backup-id', 'off/latest', '--disk', '1'],
    );
    sh('nbdcopy', disks[0]?.connect.uri ?? '', at('live'));
    sh('cmp', at('live'), points.at(-1)?.disks[1] ?? '');
    appliance.json('restore', 'live', 'remove', live_id);
  });

  it('verifies, and names what is wrong with a flipped byte and a deleted object', async () => {
    const place = placeOf(server, bucket, { prefix: 'packed/' });
    const store = new S3Store(place);
    expect(appliance.ctl('mirror', 'verify', 'off', '--deep', '100').code).toBe(0);
    const [pack = ''] = await keysIn(place, 'packs/');
    const { body } = await store.get(pack);
    const flipped = Buffer.from(body);
    flipped.writeUInt8(flipped.readUInt8(100) ^ 1, 100);
    await store.put(pack, flipped);
    const failed = appliance.ctl('mirror', 'verify', 'off', '--deep', '100');
    expectFailure(failed, 'MIRROR_OBJECT_DAMAGED', 20);
    expect(failed.stderr).toContain(pack);
    await store.delete([pack]);
    expectFailure(appliance.ctl('mirror', 'verify', 'off'), 'MIRROR_OBJECT_DAMAGED', 20);
    await store.put(pack, body);
    for (const name of ['manifest', 'chain', 'blocks']) {
      const key = `metadata/${points[1]?.id}-disk0/${name}.json`;
      const good = (await store.get(key)).body;
      const bad = Buffer.from(good);
      bad.writeUInt8(bad.readUInt8(60) ^ 1, 60);
      await store.put(key, bad);
      expectFailure(appliance.ctl('mirror', 'verify', 'off'), 'MIRROR_OBJECT_DAMAGED', 20);
      // nobody knows what it needs: nothing is collected
      if (name !== 'blocks')
        expectFailure(
          appliance.ctl('mirror', 'gc', 'off', '--grace-hours', '0'),
          'MIRROR_OBJECT_DAMAGED',
          20,
        );
      await store.put(key, good);
    }
    store.close();
    expect(appliance.ctl('mirror', 'verify', 'off', '--deep', '100').code).toBe(0);
  });
});

describe('another appliance', () => {
  const second = new TestAppliance();
  afterAll(() => second.dispose());

  it('needs the passphrase, and reads everything with nothing but the bucket and it', async () => {
    await second.start();
    writeFileSync(at('wrong'), 'not this one');
    const attach = (...more: string[]) =>
      second.ctl('mirror', 'attach', 'off', ...mirrorArgs(['--prefix', 'packed', ...more]));
    expectFailure(attach(), 'MIRROR_PASSPHRASE_MISSING', 2);
    expectFailure(attach('--passphrase-file', at('wrong')), 'MIRROR_PASSPHRASE_WRONG', 12);
    expect(attach('--passphrase-file', at('pass')).code).toBe(0);
    expectAll(second, 'off');
    expectFailure(second.ctl('mirror', 'sync', 'off'), 'MIRROR_READ_ONLY', 13);
  });

  it('opens it with a recovery key, also after the passphrase was changed', () => {
    const kit = appliance.json<{ recovery_key: string }>('mirror', 'key', 'export', 'off', '--label', 'safe');
    writeFileSync(at('recovery'), kit.recovery_key);
    writeFileSync(at('new-pass'), 'another passphrase');
    appliance.json('mirror', 'key', 'add', 'off', '--passphrase-file', at('new-pass'));
    appliance.json('mirror', 'key', 'remove', 'off', '1');
    const again = (file: string) => {
      second.ctl('mirror', 'remove', 'off');
      return second.ctl(
        'mirror',
        'attach',
        'off',
        ...mirrorArgs(['--prefix', 'packed', '--passphrase-file', file]),
      );
    };
    expectFailure(again(at('pass')), 'MIRROR_PASSPHRASE_WRONG', 12);
    expect(again(at('new-pass')).code).toBe(0);
    expect(again(at('recovery')).code).toBe(0);
    appliance.json('mirror', 'key', 'remove', 'off', '3');
    expectFailure(appliance.ctl('mirror', 'key', 'remove', 'off', '2'), 'MIRROR_LAST_KEY', 13);
  });

  it('brings a restore point into its repository and goes on with the chain', () => {
    const last = points.at(-1);
    second.json('mirror', 'fetch', 'off', '--backup-id', last?.id ?? '');
    expectFailure(second.ctl('mirror', 'fetch', 'off', '--backup-id', last?.id ?? ''), 'MIRROR_INVALID', 2);
    for (const [index, disk] of (last?.disks ?? []).entries()) {
      second.json(
        'restore',
        'disk',
        '--backup-id',
        last?.id ?? '',
        '--disk',
        String(index),
        '--output',
        at('r'),
        '--force',
      );
      sh('cmp', at('r'), disk);
    }
    second.json('vm', 'add', 'web', '--disk', at('a'), '--disk', at('b'));
    const made = new Operator(second).backUp('web');
    expect(made.disks.map(({ backup_type }) => backup_type)).toEqual(['incremental', 'incremental']);
    expect(second.ctl('verify', 'backup', made.backup_id, '--wait').code).toBe(0);
  });

  it('takes it over when told, and the first is fenced', () => {
    const args = mirrorArgs(['--prefix', 'packed', '--passphrase-file', at('recovery')]);
    second.json('mirror', 'remove', 'off');
    second.json('mirror', 'attach', 'off', ...args, '--take-over');
    const made = operator.backUp('web');
    expectFailure(appliance.ctl('mirror', 'sync', 'off', '--backup-id', made.backup_id), 'MIRROR_FENCED', 13);
    expect(listed(second, 'off').map(({ backup_id }) => backup_id)).not.toContain(made.backup_id);
    expect(second.ctl('mirror', 'sync', 'off').code).toBe(0);
    expect(listed(second, 'off').length).toBe(points.length + 1);
    expectAll(second, 'off');
  });

  it('prunes it, keeps what others stand on, and collects the rest in two runs', async () => {
    const place = placeOf(server, bucket, { prefix: 'packed/' });
    const { plan, points: lines } = second.json<{ plan: string; points: { action: string }[] }>(
      ...['mirror', 'prune', 'off', '--keep-last', '2'],
    );
    expect(lines.filter(({ action }) => action === 'delete')).toHaveLength(points.length - 1);
    expectFailure(
      second.ctl('mirror', 'prune', 'off', '--keep-last', '2', '--apply', '000000000000', '--yes'),
      'PLAN_STALE',
      13,
    );
    second.json('mirror', 'prune', 'off', '--keep-last', '2', '--apply', plan, '--yes', '--grace-hours', '0');
    const left = listed(second, 'off').map(({ backup_id }) => backup_id);
    expect(left).toHaveLength(2);
    expectAll(
      second,
      'off',
      points.filter(({ id }) => left.includes(id)),
    );
    // an object that nobody refers to is condemned by one run and deleted by the next
    const store = new S3Store(place);
    await store.put('packs/00/00000000-0000-4000-8000-000000000000', Buffer.from('garbage'));
    const gc = () =>
      second.json<{ result: Record<string, number> }>('mirror', 'gc', 'off', '--grace-hours', '0').result;
    // the first one also deletes what the pruning condemned
    // the server tells its time in whole seconds
    await sleep(1500);
    expect(gc()).toMatchObject({ condemned: 1 });
    await sleep(1500);
    expect(gc()).toMatchObject({ deleted: 1 });
    expect(await store.head('packs/00/00000000-0000-4000-8000-000000000000')).toBeNull();
    store.close();
  });
});

describe('what is set up wrongly', () => {
  const add = (...more: string[]) =>
    appliance.ctl('mirror', 'add', 'x', ...mirrorArgs(['--prefix', 'x', ...more]));

  it.each([
    ['the secret key', ['--secret-key-file', 'wrong'], 'MIRROR_CREDENTIALS', 12],
    ['the access key', ['--access-key', 'nobody'], 'MIRROR_CREDENTIALS', 12],
    ['the bucket', ['--bucket', 'there-is-none'], 'MIRROR_BUCKET_MISSING', 10],
    ['the endpoint', ['--endpoint', 'http://127.0.0.1:1'], 'MIRROR_UNREACHABLE', 21],
    ['an endpoint that is none', ['--endpoint', 'here'], 'MIRROR_INVALID', 2],
    ['a prefix that leaves its place', ['--prefix', 'a/../b'], 'MIRROR_INVALID', 2],
    ['a place that is taken', ['--prefix', 'packed'], 'MIRROR_OTHER', 13],
    ['plain and encrypted', ['--mode', 'plain', '--passphrase-file', 'pass'], 'MIRROR_INVALID', 2],
    ['locks without object lock', ['--lock', 'compliance:1'], 'MIRROR_UNFIT', 21],
  ] as const)('%s is told at once', (_what, more, code, exit) => {
    writeFileSync(at('wrong-key'), 'wrong');
    const files: Record<string, string> = { wrong: at('wrong-key'), pass: at('pass') };
    expectFailure(add(...more.map((word) => files[word] ?? word)), code, exit);
    expect(
      appliance.json<{ mirrors: { name: string }[] }>('mirror', 'list').mirrors.map(({ name }) => name),
    ).not.toContain('x');
  });

  it('nothing secret is in a process list, a log or the catalogue', () => {
    const { secretKey } = server;
    expect(appliance.log().includes(secretKey)).toBe(false);
    for (const file of readdirSync(join(appliance.home, 'state'), { recursive: true }) as string[]) {
      const path = join(appliance.home, 'state', file);
      if (existsSync(path) && !file.endsWith('master.key'))
        expect(sh('sh', '-c', `[ -d '${path}' ] || grep -c -F '${secretKey}' '${path}' || true`)).not.toMatch(
          /^[1-9]/,
        );
    }
  });
});

describe('the server', () => {
  it('is shown as it was found', () => {
    const { capabilities } = appliance.json<{ capabilities: Capabilities }>('mirror', 'show', 'plain');
    expect(capabilities).toMatchObject({
      conditional_put: true,
      conditional_replace: true,
      ranged_get: true,
    });
    expect(capabilities.object_lock).toBe(false);
  });
});
