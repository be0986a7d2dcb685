import { createHash } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectRetentionCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import type {
  ByteRange,
  ObjectInfo,
  ObjectRetention,
  ObjectStore,
  PutOptions,
  StorePlace,
} from './object-store.ts';
import { Requests } from './requests.ts';

/** More than ever run at once, so that no request waits for a socket. */
const MAX_SOCKETS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte for so long the server counts as gone. */
const SILENCE_MS = 60_000;

/**
 * A bucket over the AWS SDK. Bodies are always whole buffers with their length: streams are stored wrongly or refused
 * by several servers. Its retries are ours, since the SDK's know nothing of 403 that means slow down.
 */
export class S3Store implements ObjectStore {
  readonly #client: S3Client;
  readonly #place: StorePlace;
  readonly requests: Requests;

  constructor(place: StorePlace, requests: Requests = new Requests()) {
    this.#place = place;
    this.requests = requests;
    const sockets = { keepAlive: true, maxSockets: MAX_SOCKETS };
    this.#client = new S3Client({
      endpoint: place.endpoint,
      region: place.region,
      forcePathStyle: place.pathStyle,
      credentials: { accessKeyId: place.accessKey, secretAccessKey: place.secretKey },
      maxAttempts: 1,
      // the SDK would otherwise add checksums that half of the servers do not know
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: SILENCE_MS,
        httpAgent: new HttpAgent(sockets),
        httpsAgent: new HttpsAgent(place.tlsCa === null ? sockets : { ...sockets, ca: place.tlsCa }),
      },
    });
    // a whole pack is hashed for its signature: beside what else runs, not in its way
    this.#client.middlewareStack.add(
      (next) => async (args) => {
        await hashAside(args.request);
        return await next(args);
      },
      { step: 'build', name: 'hashAside' },
    );
  }

  close(): void {
    this.#client.destroy();
  }

  async put(key: string, body: Buffer, options: PutOptions = {}): Promise<string> {
    const { ifAbsent, ifMatch, retention } = options;
    const capabilities = this.#place.capabilities;
    const canCondition = { absent: capabilities?.conditional_put, match: capabilities?.conditional_replace };
    const answer = await this.#send('writing', key, () =>
      this.#client.send(
        new PutObjectCommand({
          ...this.#at(key),
          Body: body,
          ContentLength: body.length,
          // object lock demands it; the signature covers the body anyway
          ...(retention ? { ContentMD5: md5(body) } : {}),
          ...(ifAbsent && canCondition.absent !== false ? { IfNoneMatch: '*' } : {}),
          ...(ifMatch !== undefined && canCondition.match !== false
            ? { IfMatch: capabilities?.bare_etags === true ? ifMatch.replaceAll('"', '') : ifMatch }
            : {}),
          ...(retention ? lockHeaders(retention) : {}),
        }),
      ),
    );
    return answer.ETag ?? '';
  }

  async get(key: string, range?: ByteRange) {
    return await this.#send('reading', key, async () => {
      const answer = await this.#client.send(
        new GetObjectCommand({
          ...this.#at(key),
          ...(range ? { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
        }),
      );
      const body = Buffer.from((await answer.Body?.transformToByteArray()) ?? []);
      if (answer.ContentLength !== undefined && body.length !== answer.ContentLength)
        throw Object.assign(new Error('the answer is cut off'), { code: 'IncompleteBody' });
      return { body, etag: answer.ETag ?? '', modifiedAt: answer.LastModified ?? new Date(0) };
    });
  }

  async head(key: string): Promise<ObjectInfo | null> {
    try {
      const answer = await this.#send('reading', key, () =>
        this.#client.send(new HeadObjectCommand(this.#at(key))),
      );
      return {
        key,
        sizeBytes: answer.ContentLength ?? 0,
        modifiedAt: answer.LastModified ?? new Date(0),
        etag: answer.ETag ?? '',
      };
    } catch (error) {
      if (hasCode(error, 'MIRROR_OBJECT_MISSING')) return null;
      throw error;
    }
  }

  async *list(prefix: string): AsyncGenerator<ObjectInfo> {
    const { bucket, prefix: base } = this.#place;
    for (let token: string | undefined; ; ) {
      const page = await this.#send('listing', prefix, () =>
        this.#client.send(
          new ListObjectsV2Command({ Bucket: bucket, Prefix: base + prefix, ContinuationToken: token }),
        ),
      );
      for (const item of page.Contents ?? [])
        yield {
          key: (item.Key ?? '').slice(base.length),
          sizeBytes: item.Size ?? 0,
          modifiedAt: item.LastModified ?? new Date(0),
          etag: item.ETag ?? '',
        };
      token = page.NextContinuationToken;
      if (page.IsTruncated !== true || token === undefined) return;
    }
  }

  async delete(keys: readonly string[]): Promise<void> {
    // one request each: DeleteObjects needs checksums that servers disagree about, and tells failures apart badly
    const left = [...keys];
    const worker = async () => {
      for (let key = left.pop(); key !== undefined; key = left.pop()) await this.#deleteOne(key);
    };
    await Promise.all(Array.from({ length: Math.min(8, keys.length) }, worker));
  }

  async #deleteOne(key: string): Promise<void> {
    if (this.#place.capabilities?.versioning === true) await this.deleteVersions(key);
    else await this.#remove(key);
  }

  /** All that was ever stored under a key, delete markers included. */
  async deleteVersions(key: string): Promise<void> {
    for (const version of await this.#versionsOf(key)) await this.#remove(key, version);
  }

  async #remove(key: string, version?: string): Promise<void> {
    try {
      await this.#send('deleting', key, () =>
        this.#client.send(
          new DeleteObjectCommand({
            ...this.#at(key),
            ...(version === undefined ? {} : { VersionId: version }),
          }),
        ),
      );
    } catch (error) {
      if (hasCode(error, 'MIRROR_OBJECT_MISSING')) return;
      if (!hasCode(error, 'MIRROR_DENIED')) throw error;
      const lock = await this.retentionOf(key);
      if (lock === null || lock.until <= new Date()) throw error;
      const until = lock.until.toISOString();
      throw new SendenseError('MIRROR_LOCKED', { what: `The object ${key}`, until }, error);
    }
  }

  async #versionsOf(key: string): Promise<string[]> {
    const { Bucket, Key } = this.#at(key);
    const found: string[] = [];
    for (let marker: string | undefined, version: string | undefined; ; ) {
      const page = await this.#send('listing', key, () =>
        this.#client.send(
          new ListObjectVersionsCommand({ Bucket, Prefix: Key, KeyMarker: marker, VersionIdMarker: version }),
        ),
      );
      for (const item of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])])
        if (item.Key === Key && item.VersionId !== undefined) found.push(item.VersionId);
      marker = page.NextKeyMarker;
      version = page.NextVersionIdMarker;
      if (page.IsTruncated !== true) return found;
    }
  }

  async retain(key: string, retention: ObjectRetention): Promise<void> {
    const { ObjectLockMode, ObjectLockRetainUntilDate } = lockHeaders(retention);
    await this.#send('locking', key, () =>
      this.#client.send(
        new PutObjectRetentionCommand({
          ...this.#at(key),
          Retention: { Mode: ObjectLockMode, RetainUntilDate: ObjectLockRetainUntilDate },
        }),
      ),
    );
  }

  async retentionOf(key: string): Promise<ObjectRetention | null> {
    if (this.#place.capabilities?.object_lock === false) return null;
    try {
      const { Retention } = await this.#send('reading the lock of', key, () =>
        this.#client.send(new GetObjectRetentionCommand(this.#at(key))),
      );
      if (!Retention?.RetainUntilDate) return null;
      const mode = Retention.Mode === 'COMPLIANCE' ? 'compliance' : 'governance';
      return { mode, until: Retention.RetainUntilDate };
    } catch (error) {
      // no lock on it, told in different ways
      if (hasCode(error, 'MIRROR_OBJECT_MISSING', 'MIRROR_FAILED')) return null;
      throw error;
    }
  }

  async setLegalHold(key: string, isHeld: boolean): Promise<void> {
    await this.#send('holding', key, () =>
      this.#client.send(
        new PutObjectLegalHoldCommand({ ...this.#at(key), LegalHold: { Status: isHeld ? 'ON' : 'OFF' } }),
      ),
    );
  }

  /** To the second, from the header that every answer has. */
  async now(): Promise<Date> {
    const client = this.#client;
    let seen: string | undefined;
    const command = new ListObjectsV2Command({ Bucket: this.#place.bucket, MaxKeys: 1 });
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { headers } = result.response as { headers?: Record<string, string> };
        seen = headers?.['date'];
        return result;
      },
      { step: 'deserialize', priority: 'low' },
    );
    await this.#send('reading', '', () => client.send(command));
    return seen === undefined ? new Date() : new Date(seen);
  }

  /** @param withLock object lock can only be switched on when a bucket is made */
  async createBucket(withLock: boolean): Promise<void> {
    const { bucket } = this.#place;
    await this.#send('making the bucket', bucket, () =>
      this.#client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: withLock })),
    );
  }

  get endpoint(): string {
    return this.#place.endpoint;
  }

  async isVersioned(): Promise<boolean> {
    try {
      const { bucket } = this.#place;
      const { Status } = await this.#send('reading the versioning of', bucket, () =>
        this.#client.send(new GetBucketVersioningCommand({ Bucket: bucket })),
      );
      return Status === 'Enabled';
    } catch (error) {
      if (hasCode(error, 'MIRROR_DENIED', 'MIRROR_FAILED')) return false;
      throw error;
    }
  }

  async refusesWrongMd5(key: string): Promise<boolean> {
    const request = {
      ...this.#at(key),
      Body: Buffer.from('one'),
      ContentLength: 3,
      ContentMD5: md5(Buffer.from('two')),
    };
    const isTaken = await this.#tries('writing', key, () => this.#client.send(new PutObjectCommand(request)));
    if (isTaken) await this.delete([key]);
    return !isTaken;
  }

  async canMultipart(key: string): Promise<boolean> {
    return await this.#tries('writing', key, async () => {
      const { UploadId } = await this.#client.send(new CreateMultipartUploadCommand(this.#at(key)));
      await this.#client.send(new AbortMultipartUploadCommand({ ...this.#at(key), UploadId }));
    });
  }

  async canDeleteMany(key: string): Promise<boolean> {
    const { Bucket, Key } = this.#at(key);
    return await this.#tries('deleting', key, () =>
      this.#client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key }], Quiet: true } })),
    );
  }

  async #tries(action: string, key: string, request: () => Promise<unknown>): Promise<boolean> {
    try {
      await this.#send(action, key, request);
      return true;
    } catch (error) {
      if (hasCode(error, 'MIRROR_FAILED', 'MIRROR_DENIED', 'MIRROR_OBJECT_MISSING')) return false;
      throw error;
    }
  }

  #at(key: string) {
    return { Bucket: this.#place.bucket, Key: this.#place.prefix + key };
  }

  #send<T>(action: string, key: string, request: () => Promise<T>): Promise<T> {
    return this.requests.run(this.#place, action, key, request);
  }
}

const HASHED_ASIDE_BYTES = 1024 * 1024;

/** Tells the signer the SHA-256 of a long body, which a thread of the pool has worked out. */
async function hashAside(request: unknown): Promise<void> {
  const { body, headers } = request as { body?: unknown; headers: Record<string, string> };
  if (!(body instanceof Uint8Array) || body.length < HASHED_ASIDE_BYTES) return;
  const digest = await crypto.subtle.digest('SHA-256', body as Uint8Array<ArrayBuffer>);
  headers['x-amz-content-sha256'] = Buffer.from(digest).toString('hex');
}

const md5 = (body: Buffer): string => createHash('md5').update(body).digest('base64');

const lockHeaders = ({ mode, until }: ObjectRetention) => ({
  ObjectLockMode: mode === 'compliance' ? ('COMPLIANCE' as const) : ('GOVERNANCE' as const),
  ObjectLockRetainUntilDate: until,
});
