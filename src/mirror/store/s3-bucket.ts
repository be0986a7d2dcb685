import { createHash } from 'node:crypto';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { S3Client } from '@aws-sdk/client-s3';
import type { StorePlace } from './object-store.ts';
import type { Requests } from './requests.ts';

/** More than ever run at once, so that no request waits for a socket. */
const MAX_SOCKETS = 64;
const CONNECT_TIMEOUT_MS = 10_000;
/** Without a byte for so long the server counts as gone. */
const SILENCE_MS = 60_000;

/** The way to a bucket: what a request needs, and the care that each is carried out with. */
export class S3Bucket {
  readonly client: S3Client;
  readonly place: StorePlace;
  readonly requests: Requests;

  constructor(place: StorePlace, requests: Requests) {
    this.place = place;
    this.requests = requests;
    const sockets = { keepAlive: true, maxSockets: MAX_SOCKETS };
    this.client = new S3Client({
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
    this.client.middlewareStack.add(
      (next) => async (args) => {
        await hashAside(args.request);
        return await next(args);
      },
      { step: 'build', name: 'hashAside' },
    );
  }

  close(): void {
    this.client.destroy();
  }

  at(key: string) {
    return { Bucket: this.place.bucket, Key: this.place.prefix + key };
  }

  /** Its retries are ours. @throws as `Requests.run` */
  send<T>(action: string, key: string, request: () => Promise<T>): Promise<T> {
    return this.requests.run(this.place, action, key, request);
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

export const md5 = (body: Buffer): string => createHash('md5').update(body).digest('base64');
