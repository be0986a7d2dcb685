import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutObjectCommand,
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
import { md5, S3Bucket } from './s3-bucket.ts';
import { lockHeaders, retain, retentionOf, setLegalHold } from './s3-locks.ts';

/**
 * A bucket over the AWS SDK. Bodies are always whole buffers with their length: streams are stored wrongly or refused
 * by several servers. Its retries are ours, since the SDK's know nothing of 403 that means slow down.
 */
export class S3Store implements ObjectStore {
  readonly bucket: S3Bucket;

  constructor(place: StorePlace, requests: Requests = new Requests()) {
    this.bucket = new S3Bucket(place, requests);
  }

  close(): void {
    this.bucket.client.destroy();
  }

  async put(key: string, body: Buffer, options: PutOptions = {}): Promise<string> {
    const { ifAbsent, ifMatch, retention } = options;
    const capabilities = this.bucket.place.capabilities;
    const canCondition = { absent: capabilities?.conditional_put, match: capabilities?.conditional_replace };
    const answer = await this.bucket.send('writing', key, () =>
      this.bucket.client.send(
        new PutObjectCommand({
          ...this.bucket.at(key),
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
    return await this.bucket.send('reading', key, async () => {
      const answer = await this.bucket.client.send(
        new GetObjectCommand({
          ...this.bucket.at(key),
          ...(range ? { Range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {}),
        }),
      );
      const bytes = (await answer.Body?.transformToByteArray()) ?? new Uint8Array();
      const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (answer.ContentLength !== undefined && body.length !== answer.ContentLength)
        throw Object.assign(new Error('the answer is cut off'), { code: 'IncompleteBody' });
      return { body, etag: answer.ETag ?? '', modifiedAt: answer.LastModified ?? new Date(0) };
    });
  }

  async head(key: string): Promise<ObjectInfo | null> {
    try {
      const answer = await this.bucket.send('reading', key, () =>
        this.bucket.client.send(new HeadObjectCommand(this.bucket.at(key))),
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
    const { bucket, prefix: base } = this.bucket.place;
    for (let token: string | undefined; ; ) {
      const page = await this.bucket.send('listing', prefix, () =>
        this.bucket.client.send(
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
    if (this.bucket.place.capabilities?.versioning === true) await this.deleteVersions(key);
    else await this.#remove(key);
  }

  /** All that was ever stored under a key, delete markers included. */
  async deleteVersions(key: string): Promise<void> {
    for (const version of await this.#versionsOf(key)) await this.#remove(key, version);
  }

  async #remove(key: string, version?: string): Promise<void> {
    try {
      await this.bucket.send('deleting', key, () =>
        this.bucket.client.send(
          new DeleteObjectCommand({
            ...this.bucket.at(key),
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
    const { Bucket, Key } = this.bucket.at(key);
    const found: string[] = [];
    for (let marker: string | undefined, version: string | undefined; ; ) {
      const page = await this.bucket.send('listing', key, () =>
        this.bucket.client.send(
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
    await retain(this.bucket, key, retention);
  }

  async retentionOf(key: string): Promise<ObjectRetention | null> {
    return await retentionOf(this.bucket, key);
  }

  async setLegalHold(key: string, isHeld: boolean): Promise<void> {
    await setLegalHold(this.bucket, key, isHeld);
  }

  /** To the second, from the header that every answer has. */
  async now(): Promise<Date> {
    const client = this.bucket.client;
    let seen: string | undefined;
    const command = new ListObjectsV2Command({ Bucket: this.bucket.place.bucket, MaxKeys: 1 });
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { headers } = result.response as { headers?: Record<string, string> };
        seen = headers?.['date'];
        return result;
      },
      { step: 'deserialize', priority: 'low' },
    );
    await this.bucket.send('reading', '', () => client.send(command));
    return seen === undefined ? new Date() : new Date(seen);
  }
}
