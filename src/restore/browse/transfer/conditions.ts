/** What a client already has, RFC 9110 section 13. Only safe methods come here. */
export interface Validators {
  /** Strong and quoted. */
  readonly etag: string;
  readonly mtimeMs: number;
}

type Headers = (name: 'If-None-Match' | 'If-Modified-Since' | 'If-Range') => string | undefined;

const seconds = (timeMs: number) => Math.floor(timeMs / 1000);
const opaque = (tag: string) => tag.replace(/^W\//, '');

/** True: the answer is 304. `If-None-Match` is compared weakly and makes `If-Modified-Since` meaningless. */
export function isNotModified(headers: Headers, { etag, mtimeMs }: Validators): boolean {
  const tags = headers('If-None-Match');
  if (tags !== undefined) {
    if (tags.trim() === '*') return true;
    return (tags.match(/(?:W\/)?"[^"]*"/g) ?? []).some((tag) => opaque(tag) === etag);
  }
  const since = Date.parse(headers('If-Modified-Since') ?? '');
  return !Number.isNaN(since) && seconds(mtimeMs) <= seconds(since);
}

/**
 * True: a `Range` header may be looked at. A weak tag never matches. A date matches when it is exactly the time of the
 * file and that time is at least a second old, for within one second a file may have had two contents.
 */
export function mayUseRange(headers: Headers, { etag, mtimeMs }: Validators, nowMs = Date.now()): boolean {
  const value = headers('If-Range')?.trim();
  if (value === undefined) return true;
  if (value.startsWith('"') || value.startsWith('W/')) return value === etag;
  const date = Date.parse(value);
  return !Number.isNaN(date) && seconds(date) === seconds(mtimeMs) && seconds(nowMs) > seconds(mtimeMs);
}
