import {
  GetObjectRetentionCommand,
  PutObjectLegalHoldCommand,
  PutObjectRetentionCommand,
} from '@aws-sdk/client-s3';
import { hasCode } from '../../base/sendense-error.ts';
import type { ObjectRetention } from './object-store.ts';
import type { S3Bucket } from './s3-bucket.ts';

export async function retain(bucket: S3Bucket, key: string, retention: ObjectRetention): Promise<void> {
  const { ObjectLockMode, ObjectLockRetainUntilDate } = lockHeaders(retention);
  await bucket.send('locking', key, () =>
    bucket.client.send(
      new PutObjectRetentionCommand({
        ...bucket.at(key),
        Retention: { Mode: ObjectLockMode, RetainUntilDate: ObjectLockRetainUntilDate },
      }),
    ),
  );
}

/** Null also where locks are not known. */
export async function retentionOf(bucket: S3Bucket, key: string): Promise<ObjectRetention | null> {
  if (bucket.place.capabilities?.object_lock === false) return null;
  try {
    const { Retention } = await bucket.send('reading the lock of', key, () =>
      bucket.client.send(new GetObjectRetentionCommand(bucket.at(key))),
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

export async function setLegalHold(bucket: S3Bucket, key: string, isHeld: boolean): Promise<void> {
  await bucket.send('holding', key, () =>
    bucket.client.send(
      new PutObjectLegalHoldCommand({ ...bucket.at(key), LegalHold: { Status: isHeld ? 'ON' : 'OFF' } }),
    ),
  );
}

export const lockHeaders = ({ mode, until }: ObjectRetention) => ({
  ObjectLockMode: mode === 'compliance' ? ('COMPLIANCE' as const) : ('GOVERNANCE' as const),
  ObjectLockRetainUntilDate: until,
});
