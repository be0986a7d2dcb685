/**
 * Uploads to a mirror beside a bare loop of PUTs, restic and rclone, to the same server in one run; and how soon a file
 * comes straight from the bucket. See docs/benchmarks.md; never part of a test. Needs restic and rclone.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBucket } from '../src/mirror/store/s3-abilities.ts';
import { S3Store } from '../src/mirror/store/s3-store.ts';
import { TestAppliance } from '../test/support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../test/support/guest-disk.ts';
import { newBucket, ownS3, placeOf, type S3Server } from '../test/support/s3-server.ts';
import { change } from './support/images.ts';
import { ask, job, median, type Sample, timed } from './support/measure.ts';

const MIB = 1024 * 1024;
const rounds = Number(process.env['BENCH_ROUNDS'] ?? 3);
const dataMib = Number(process.env['BENCH_MIB'] ?? 2048);
const work = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'sd-bench-mirror-'));
const at = (name: string) => join(work, name);

interface Row extends Sample {
  readonly requests: number;
  readonly storedMib: number;
}
const rows = new Map<string, Row[]>();
const firstBytes: Record<'mount' | 'byte', number[]> = { mount: [], byte: [] };

/** How many requests the gateway has answered. */
function answered(server: S3Server): number {
  const socket = join(server.folder, 'run', 'client.rgw.a.asok');
  const { stdout } = spawnSync('ceph', ['--admin-daemon', socket, 'perf', 'dump'], { encoding: 'utf8' });
  return (JSON.parse(stdout) as Record<string, { req?: number }>)['rgw']?.req ?? 0;
}

async function sizes(server: S3Server, bucket: string): Promise<number[]> {
  const store = new S3Store(placeOf(server, bucket));
  const found: number[] = [];
  for await (const { sizeBytes } of store.list('')) found.push(sizeBytes);
  store.close();
  return found;
}

async function row(
  name: string,
  server: S3Server,
  bucket: string,
  work_: () => Sample | Promise<Sample>,
): Promise<void> {
  const stored = async () => (await sizes(server, bucket)).reduce((sum, size) => sum + size, 0) / MIB;
  const [before, sent] = [await stored(), answered(server)];
  const sample = await work_();
  // the listing above is one request, or one for each thousand objects
  const requests = answered(server) - sent;
  const result = { ...sample, requests, storedMib: (await stored()) - before };
  rows.set(name, [...(rows.get(name) ?? []), result]);
  console.error(
    `${name}: ${sample.seconds.toFixed(2)} s, ${requests} requests, ${result.storedMib.toFixed(0)} MiB stored`,
  );
}

/** PUTs of objects as long as these, a few at a time. */
async function bareLoop(server: S3Server, bucket: string, lengths: readonly number[]): Promise<Sample> {
  const store = new S3Store(placeOf(server, bucket));
  await createBucket(store.bucket, false);
  const body = bytesOf('bare', Math.max(...lengths));
  const queue = [...lengths.entries()];
  const [cpu, start] = [process.cpuUsage(), performance.now()];
  const worker = async () => {
    for (let next = queue.pop(); next; next = queue.pop())
      await store.put(`object${next[0]}`, body.subarray(0, next[1]));
  };
  await Promise.all([worker(), worker(), worker(), worker()]);
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  store.close();
  return { seconds, cpuSeconds: (user + system) / 1e6, peakMib: process.memoryUsage.rss() / MIB };
}

async function layerOf(appliance: TestAppliance, id: string): Promise<string> {
  const shown = await ask<{ disks: { layer: string }[] }>(appliance, 'GET', `/backup/${id}`);
  const root = join(appliance.home, 'backups');
  const name = `/${shown.disks[0]?.layer}`;
  const found = (readdirSync(root, { recursive: true }) as string[]).find((path) => path.endsWith(name));
  return join(root, found ?? '');
}

async function firstByte(appliance: TestAppliance, id: string): Promise<void> {
  const start = performance.now();
  const mount = await ask<{ mount_id: string; partitions: { path: string }[] }>(
    ...([appliance, 'POST', '/restore/mount', { backup_id: `off/${id}` }] as const),
  );
  const mounted = performance.now();
  const socket = join(appliance.home, 'run', 'sendensed.sock');
  const folder = mount.partitions[0]?.path ?? '';
  const url = `http://localhost/api/v1/restore/${mount.mount_id}/download?path=${folder}/file`;
  const answer = spawnSync('curl', [
    '-s',
    '-r',
    '0-0',
    '-o',
    at('byte'),
    '-w',
    '%{http_code}',
    '--unix-socket',
    socket,
    url,
  ]);
  if (String(answer.stdout) !== '206') throw new Error(`the download answered ${answer.stdout}`);
  firstBytes.mount.push((mounted - start) / 1000);
  firstBytes.byte.push((performance.now() - start) / 1000);
  appliance.ctl('mount', 'remove', mount.mount_id);
}

/** Half of it programs, which compress as what people have does, half random; then a hole as long as both. */
function makeRealImage(image: string): void {
  const half = (dataMib * MIB) / 2;
  sh('sh', '-c', `tar -cf - /usr/lib /usr/share /usr/bin 2>/dev/null | head -c ${half} >${image}`);
  sh('sh', '-c', `head -c ${half} /dev/urandom >>${image}`);
  truncateSync(image, dataMib * 2 * MIB);
}

async function round(number: number): Promise<void> {
  using server = await ownS3();
  mkdirSync(at(`home${number}`));
  const appliance = new TestAppliance(at(`home${number}`));
  try {
    const image = at('disk.img');
    makeRealImage(image);
    insideDisk(at('files.img'), makePlainDisk(at('files.img'), 256), (root) =>
      writeFileSync(join(root, 'file'), bytesOf('file', 100 * MIB)),
    );
    await appliance.start(['exports.backend=storage-daemon', 'mounts.mode=userspace']);
    appliance.json('vm', 'add', 'data', '--disk', image);
    appliance.json('vm', 'add', 'files', '--disk', at('files.img'));
    writeFileSync(at('pass'), 'a passphrase');
    const bucket = newBucket();
    appliance.json(
      ...['mirror', 'add', 'off', '--endpoint', server.endpoint, '--bucket', bucket, '--create-bucket'],
      ...['--access-key', server.accessKey, '--secret-key-file', server.secretKeyFile],
      ...['--passphrase-file', at('pass'), '--no-auto'],
    );
    process.env['AWS_ACCESS_KEY_ID'] = server.accessKey;
    process.env['AWS_SECRET_ACCESS_KEY'] = server.secretKey;
    process.env['RESTIC_PASSWORD_FILE'] = at('pass');
    // rclone 1.60 does not start with it
    delete process.env['AWS_CA_BUNDLE'];
    const [resticBucket, rcloneBucket] = [newBucket(), newBucket()];
    const restic = ['-q', '--no-cache', '-r', `s3:${server.endpoint}/${resticBucket}`];
    const remote = `:s3,provider=Ceph,env_auth=true,endpoint="${server.endpoint}":${rcloneBucket}`;
    timed('restic', ...restic, 'init', '--repository-version', '2');
    timed('rclone', 'mkdir', remote);
    for (const kind of ['full', 'incremental after 5 %'] as const) {
      if (kind !== 'full') change(image, dataMib * 2, 5, dataMib);
      const type = kind === 'full' ? 'full' : 'incremental';
      const { backup_id } = appliance.json<{ backup_id: string }>(
        ...['backup', 'start', '--vm', 'data', '--type', type, '--wait'],
      );
      const layer = await layerOf(appliance, backup_id);
      await row(`${kind}: mirror sync`, server, bucket, () =>
        job(appliance, '/mirrors/off/sync', { backup_id }),
      );
      if (kind === 'full') {
        const bareBucket = newBucket();
        const lengths = await sizes(server, bucket);
        const sample = await bareLoop(server, bareBucket, lengths);
        rows.set('full: bare PUTs of the same objects', [
          ...(rows.get('full: bare PUTs of the same objects') ?? []),
          {
            ...sample,
            requests: lengths.length,
            storedMib: lengths.reduce((sum, length) => sum + length, 0) / MIB,
          },
        ]);
      }
      await row(`${kind}: restic backup of the layer`, server, resticBucket, () =>
        timed('restic', ...restic, 'backup', layer),
      );
      await row(`${kind}: rclone copy of the layer`, server, rcloneBucket, () =>
        timed('rclone', 'copy', layer, remote),
      );
    }
    const files = appliance.json<{ backup_id: string }>(
      ...['backup', 'start', '--vm', 'files', '--type', 'full', '--wait'],
    );
    appliance.json('mirror', 'sync', 'off', '--backup-id', files.backup_id);
    await firstByte(appliance, files.backup_id);
  } finally {
    await appliance.dispose();
    for (const name of ['disk.img', 'files.img', `home${number}`])
      rmSync(at(name), { recursive: true, force: true });
  }
}

try {
  for (let number = 0; number < rounds; number += 1) await round(number);
  console.log(
    `\n${dataMib} MiB of data, median of ${rounds}, load ${readFileSync('/proc/loadavg', 'utf8').split(' ')[0]}\n`,
  );
  console.log('| what | s | CPU s | peak MiB, program | MiB stored | requests |');
  console.log('| --- | ---: | ---: | ---: | ---: | ---: |');
  for (const [name, samples] of rows) {
    const of = (pick: (row: Row) => number) => median(samples.map(pick));
    console.log(
      `| ${name} | ${of((one) => one.seconds).toFixed(2)} | ${of((one) => one.cpuSeconds).toFixed(2)} | ${of((one) => one.worker ?? one.peakMib).toFixed(0)} | ${of((one) => one.storedMib).toFixed(0)} | ${of((one) => one.requests).toFixed(0)} |`,
    );
  }
  console.log(
    `\nFrom the bucket: mounted after ${median(firstBytes.mount).toFixed(2)} s, first byte of a file after ${median(firstBytes.byte).toFixed(2)} s.`,
  );
} finally {
  rmSync(work, { recursive: true, force: true });
}
