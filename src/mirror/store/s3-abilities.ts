import {
  AbortMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetBucketVersioningCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { hasCode } from '../../base/sendense-error.ts';
import { md5, type S3Bucket } from './s3-bucket.ts';

/** @param withLock object lock can only be switched on when a bucket is made */
export async function createBucket(at: S3Bucket, withLock: boolean): Promise<void> {
  const { bucket } = at.place;
  await at.send('making the bucket', bucket, () =>
    at.client.send(new CreateBucketCommand({ Bucket: bucket, ObjectLockEnabledForBucket: withLock })),
  );
}

export async function isVersioned(at: S3Bucket): Promise<boolean> {
  try {
    const { bucket } = at.place;
    const { Status } = await at.send('reading the versioning of', bucket, () =>
      at.client.send(new GetBucketVersioningCommand({ Bucket: bucket })),
    );
    return Status === 'Enabled';
  } catch (error) {
    if (hasCode(error, 'MIRROR_DENIED', 'MIRROR_FAILED')) return false;
    throw error;
  }
}

/** An object may be there afterwards. */
export async function refusesWrongMd5(at: S3Bucket, key: string): Promise<boolean> {
  const request = {
    ...at.at(key),
    Body: Buffer.from('one'),
    ContentLength: 3,
    ContentMD5: md5(Buffer.from('two')),
  };
  const isTaken = await tries(at, 'writing', key, () => at.client.send(new PutObjectCommand(request)));
  return !isTaken;
}

export async function canMultipart(at: S3Bucket, key: string): Promise<boolean> {
  return await tries(at, 'writing', key, async () => {
    const { UploadId } = await at.client.send(new CreateMultipartUploadCommand(at.at(key)));
    await at.client.send(new AbortMultipartUploadCommand({ ...at.at(key), UploadId }));
  });
}

export async function canDeleteMany(at: S3Bucket, key: string): Promise<boolean> {
  const { Bucket, Key } = at.at(key);
  return await tries(at, 'deleting', key, () =>
    at.client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key }], Quiet: true } })),
  );
}

async function tries(
  at: S3Bucket,
  action: string,
  key: string,
  request: () => Promise<unknown>,
): Promise<boolean> {
  try {
    await at.send(action, key, request);
    return true;
  } catch (error) {
    if (hasCode(error, 'MIRROR_FAILED', 'MIRROR_DENIED', 'MIRROR_OBJECT_MISSING')) return false;
    throw error;
  }
}
