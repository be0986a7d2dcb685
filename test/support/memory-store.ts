import { createHash } from 'node:crypto';
import { SendenseError } from '../../src/base/sendense-error.ts';
import type {
  ByteRange,
  Capabilities,
  ObjectInfo,
  ObjectRetention,
  ObjectStore,
  PutOptions,
} from '../../src/mirror/store/object-store.ts';

interface Stored {
  readonly body: Buffer;
  readonly etag: string;
  readonly modifiedAt: Date;
}

/** What it keeps of S3's promises, as a probe would find it. */
export const memoryCapabilities: Capabilities = {
  probed_at: '',
  conditional_put: true,
  conditional_replace: true,
  bare_etags: false,
  checks_md5: false,
  multipart: false,
  ranged_get: true,
  delete_many: false,
  versioning: false,
  object_lock: false,
};

/** The end of a program in the middle of its work. */
export class Crash extends Error {}

/** What all clients of one bucket share. Its clock goes on with each request. */
export class Bucket {
  readonly objects = new Map<string, Stored>();
  nowMs = Date.parse('2026-01-01T00:00:00Z');
}

/**
 * A bucket as S3 promises it: every request is one step, and every later one sees it. Before each step a client may be
 * made to wait, so that the steps of several clients come in any order, or to end.
 */
export class MemoryStore implements ObjectStore {
  readonly #bucket: Bucket;
  readonly #step: () => Promise<void>;

  constructor(bucket: Bucket, step: () => Promise<void>) {
    this.#bucket = bucket;
    this.#step = step;
  }

  async #turn(): Promise<Map<string, Stored>> {
    await this.#step();
    this.#bucket.nowMs += 1;
    return this.#bucket.objects;
  }

  async put(key: string, body: Buffer, { ifAbsent, ifMatch }: PutOptions = {}): Promise<string> {
    const objects = await this.#turn();
    const found = objects.get(key);
    if ((ifAbsent && found) || (ifMatch !== undefined && found?.etag !== ifMatch))
      throw new SendenseError('MIRROR_CONFLICT', { key });
    const etag = createHash('md5').update(body).update(String(this.#bucket.nowMs)).digest('hex');
    objects.set(key, { body: Buffer.from(body), etag, modifiedAt: new Date(this.#bucket.nowMs) });
    return etag;
  }

  async get(key: string, range?: ByteRange): Promise<Stored> {
    const found = (await this.#turn()).get(key);
    if (!found) throw new SendenseError('MIRROR_OBJECT_MISSING', { key });
    if (!range) return found;
    return { ...found, body: found.body.subarray(range.offset, range.offset + range.length) };
  }

  async head(key: string): Promise<ObjectInfo | null> {
    const found = (await this.#turn()).get(key);
    return found
      ? { key, sizeBytes: found.body.length, modifiedAt: found.modifiedAt, etag: found.etag }
      : null;
  }

  async *list(prefix: string): AsyncGenerator<ObjectInfo> {
    const objects = await this.#turn();
    const found = [...objects].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [key, { body, modifiedAt, etag }] of found)
      yield { key, sizeBytes: body.length, modifiedAt, etag };
  }

  async delete(keys: readonly string[]): Promise<void> {
    for (const key of keys) (await this.#turn()).delete(key);
  }

  async retain(_key: string, _lock: ObjectRetention): Promise<void> {
    await this.#turn();
  }

  async retentionOf(): Promise<null> {
    return null;
  }

  async setLegalHold(): Promise<void> {
    await this.#turn();
  }

  async now(): Promise<Date> {
    await this.#turn();
    return new Date(this.#bucket.nowMs);
  }
}
