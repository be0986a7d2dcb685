import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StorePlace } from '../../src/mirror/store/object-store.ts';
import { S3Store } from '../../src/mirror/store/s3-store.ts';

const program = join('scripts', 's3-server');

/** A real S3 server, Ceph RGW. */
export interface S3Server {
  readonly folder: string;
  readonly port: number;
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly secretKeyFile: string;
}

/** The one that all tests of this run share; each makes buckets of its own. */
export async function sharedS3(): Promise<S3Server> {
  const folder = process.env['TEST_S3_FOLDER'];
  if (folder === undefined) throw new Error('the global set-up of the tests has not run');
  return await start(folder);
}

/** One that may be killed. */
export async function ownS3(): Promise<S3Server & Disposable> {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'sd-s3-own-'));
  const stop = () => {
    control(folder, 'stop');
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    return { ...(await start(folder)), [Symbol.dispose]: stop };
  } catch (error) {
    stop();
    throw error;
  }
}

const control = (folder: string, action: 'stop') =>
  execFileSync(program, [action, '--dir', folder], { stdio: 'ignore' });

async function start(folder: string): Promise<S3Server> {
  // several test files begin at the same time
  execFileSync(
    'flock',
    [
      // or the server would inherit the lock and keep it
      '--close',
      join(folder, '.lock'),
      ...[program, 'start', '--dir', folder, '--port', String(await freePorts())],
      ...['--store', 'memstore', '--size-gib', '8'],
    ],
    { stdio: ['ignore', 'ignore', 'inherit'], timeout: 150_000 },
  );
  const port = Number(
    /endpoint=127\.0\.0\.1:(\d+)/.exec(readFileSync(join(folder, 'ceph.conf'), 'utf8'))?.[1],
  );
  const secretKeyFile = join(folder, 'secret-key');
  return {
    folder,
    port,
    endpoint: `http://127.0.0.1:${port}`,
    accessKey: readFileSync(join(folder, 'access-key'), 'utf8'),
    secretKey: readFileSync(secretKeyFile, 'utf8'),
    secretKeyFile,
  };
}

/** The first of a few neighbours that are free; which of them are taken later is the server's to find. */
async function freePorts(): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 400) * 100;
    const areFree = await Promise.all([0, 1, 2, 3, 4].map((step) => isFree(first + step)));
    if (areFree.every(Boolean)) return first;
  }
}

const isFree = (port: number) =>
  new Promise<boolean>((resolve) => {
    const server = createServer()
      .once('error', () => resolve(false))
      .listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

export const newBucket = () => `test-${randomUUID()}`;

export function placeOf(server: S3Server, bucket: string, more: Partial<StorePlace> = {}): StorePlace {
  return {
    endpoint: server.endpoint,
    region: 'us-east-1',
    bucket,
    prefix: '',
    accessKey: server.accessKey,
    secretKey: server.secretKey,
    pathStyle: true,
    tlsCa: null,
    capabilities: null,
    ...more,
  };
}

/** What lies in a bucket, by the SDK. */
export async function keysIn(place: StorePlace, prefix = ''): Promise<string[]> {
  const store = new S3Store(place);
  const keys: string[] = [];
  for await (const { key } of store.list(prefix)) keys.push(key);
  store.close();
  return keys;
}
