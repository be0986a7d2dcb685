/** What a mirror needs of an S3 bucket. Keys are relative to the prefix of the mirror. */
export interface ObjectStore {
  /**
   * @returns the ETag
   * @throws MIRROR_CONFLICT when a condition does not hold
   */
  put(key: string, body: Buffer, options?: PutOptions): Promise<string>;
  /** @throws MIRROR_OBJECT_MISSING */
  get(key: string, range?: ByteRange): Promise<StoredObject>;
  head(key: string): Promise<ObjectInfo | null>;
  /** In the order of their keys. */
  list(prefix: string): AsyncGenerator<ObjectInfo>;
  /** Every version of each; what is not there counts as deleted. @throws MIRROR_LOCKED */
  delete(keys: readonly string[]): Promise<void>;
  /** Extends the retention of the current version; never shortens it. */
  retain(key: string, lock: ObjectRetention): Promise<void>;
  retentionOf(key: string): Promise<ObjectRetention | null>;
  setLegalHold(key: string, isHeld: boolean): Promise<void>;
  /** The clock that `modifiedAt` is told by. */
  now(): Promise<Date>;
}

export interface PutOptions {
  /** Only when no such object exists. */
  readonly ifAbsent?: boolean;
  /** Only when it is still this one. */
  readonly ifMatch?: string;
  readonly retention?: ObjectRetention | undefined;
}

export interface ObjectRetention {
  readonly mode: 'governance' | 'compliance';
  readonly until: Date;
}

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

export interface ObjectInfo {
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
  readonly etag: string;
}

export interface StoredObject {
  readonly body: Buffer;
  readonly etag: string;
  readonly modifiedAt: Date;
}

/** Where a mirror lies and how to get in. Never logged, never in argv. */
export interface StorePlace {
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
  readonly accessKey: string;
  readonly secretKey: string;
  readonly pathStyle: boolean;
  /** PEM of the authority that signed the server's certificate; null: those that Node knows. */
  readonly tlsCa: string | null;
  /** Measured at set-up; see `probe-store.ts`. Null before. */
  readonly capabilities: Capabilities | null;
}

/** What the server really does, found out by trying. */
export interface Capabilities {
  readonly probed_at: string;
  /** PUT with If-None-Match: only one of several writers wins. */
  readonly conditional_put: boolean;
  /** PUT with If-Match: a change that was overtaken is refused. */
  readonly conditional_replace: boolean;
  /** It wants the ETag of If-Match without the quotes that it was told with. */
  readonly bare_etags: boolean;
  /** A body that does not match its Content-MD5 is refused. */
  readonly checks_md5: boolean;
  readonly multipart: boolean;
  readonly ranged_get: boolean;
  /** Several objects are deleted by one request. */
  readonly delete_many: boolean;
  readonly versioning: boolean;
  /** Proven: an object under retention could not be deleted. */
  readonly object_lock: boolean;
}
