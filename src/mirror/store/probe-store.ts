import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type { Capabilities, ObjectStore } from './object-store.ts';
import { canDeleteMany, canMultipart, isVersioned, refusesWrongMd5 } from './s3-abilities.ts';
import type { S3Store } from './s3-store.ts';

/** Longer than the clocks of servers round to. */
const LOCK_PROBE_MS = 5_000;

/**
 * Finds out what the server really does, by doing it. Several servers answer 200 to things that they ignore.
 * @throws MIRROR_UNFIT when it cannot hold a mirror at all; MIRROR_CREDENTIALS, MIRROR_BUCKET_MISSING, …
 */
export async function probeStore(store: S3Store, wantLock: boolean): Promise<Capabilities> {
  const folder = `repo/probe-${randomUUID()}`;
  const key = (name: string) => `${folder}/${name}`;
  const made: string[] = [];
  const put = async (name: string, body: Buffer, options: Parameters<ObjectStore['put']>[2] = {}) => {
    made.push(key(name));
    return await store.put(key(name), body, options);
  };
  try {
    const content = Buffer.from('0123456789'.repeat(100));
    const etag = await put('plain', content);
    await proveBasics(store, key('plain'), content);
    const refuses = async (
      action: () => Promise<unknown>,
      ...codes: ('MIRROR_CONFLICT' | 'MIRROR_FAILED')[]
    ) =>
      await action().then(
        () => false,
        (error: unknown) => {
          if (hasCode(error, ...codes)) return true;
          if (hasCode(error, 'MIRROR_FAILED', 'MIRROR_CONFLICT')) return false;
          throw error;
        },
      );
    const absent = await refuses(() => put('plain', content, { ifAbsent: true }), 'MIRROR_CONFLICT');
    // the one that is still there is accepted, another one is not
    const takes = (ifMatch: string) =>
      put('plain', content, { ifMatch }).then(
        () => true,
        () => false,
      );
    const takesQuoted = await takes(etag);
    const takesBare = !takesQuoted && (await takes(etag.replaceAll('"', '')));
    const refusesStale = await refuses(
      () => put('plain', content, { ifMatch: '"00000000000000000000000000000000"' }),
      'MIRROR_CONFLICT',
    );
    const ranged = await store.get(key('plain'), { offset: 1, length: 2 }).then(
      ({ body }) => body.length === 2 && body.toString() === '12',
      () => false,
    );
    if (!ranged) throw unfit(store, 'it does not answer to reads of a part of an object');
    made.push(key('md5'));
    const versioning = await isVersioned(store.bucket);
    return {
      probed_at: new Date().toISOString(),
      conditional_put: absent,
      conditional_replace: (takesQuoted || takesBare) && refusesStale,
      bare_etags: takesBare,
      checks_md5: await refusesWrongMd5(store.bucket, key('md5')),
      multipart: await canMultipart(store.bucket, key('parts')),
      ranged_get: ranged,
      delete_many: await canDeleteMany(store.bucket, key('many')),
      versioning,
      object_lock: wantLock && versioning ? await provesLock(store, key('lock')) : false,
    };
  } finally {
    await store.delete(made).catch(() => undefined);
  }
}

async function proveBasics(store: S3Store, key: string, content: Buffer): Promise<void> {
  const { body } = await store.get(key);
  if (!body.equals(content)) throw unfit(store, 'what it gives back is not what was written');
  const listed: string[] = [];
  for await (const info of store.list(key)) listed.push(info.key);
  if (!listed.includes(key)) throw unfit(store, 'a new object is not in its list');
}

/** Some servers take a lock and delete the object all the same. */
async function provesLock(store: S3Store, key: string): Promise<boolean> {
  const until = new Date(Date.now() + LOCK_PROBE_MS);
  try {
    await store.put(key, Buffer.from('locked'), { retention: { mode: 'compliance', until } });
  } catch (error) {
    if (hasCode(error, 'MIRROR_FAILED', 'MIRROR_DENIED')) return false;
    throw error;
  }
  const isRefused = await store.deleteVersions(key).then(
    () => false,
    (error: unknown) => hasCode(error, 'MIRROR_DENIED', 'MIRROR_LOCKED', 'MIRROR_FAILED'),
  );
  await sleep(Math.max(0, until.getTime() - Date.now()) + 1_000);
  await store.deleteVersions(key).catch(() => undefined);
  return isRefused;
}

const unfit = (store: S3Store, detail: string) =>
  new SendenseError('MIRROR_UNFIT', { endpoint: store.bucket.place.endpoint, detail });
