import { dirname } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';

const SLASH = 0x2f;
/** NAME_MAX and PATH_MAX, linux/limits.h. */
const NAME_MAX = 255;
const PATH_MAX = 4096;

/** A path inside a guest as it comes in: text, or raw bytes for names that are not UTF-8. */
export type GuestPath = string | Buffer;

/** For messages and answers; bytes that are not UTF-8 are shown as U+FFFD. */
export const displayPath = (path: GuestPath): string => (path.length === 0 ? '/' : path.toString());

export const pathInvalid = (path: GuestPath, detail: string) =>
  new SendenseError('PATH_INVALID', { path: displayPath(path), detail });
export const pathUnknown = (path: GuestPath) =>
  new SendenseError('PATH_UNKNOWN', { path: displayPath(path), folder: folderOf(displayPath(path)) });
/** Where to look for a name that is not there. */
const folderOf = (path: string) => dirname(path.startsWith('/') ? path : `/${path}`);

/**
 * The components of an absolute path, `.` and empty ones left out, `..` kept: what it means depends on symlinks.
 * An empty path is the root.
 * @throws PATH_INVALID
 */
export function splitGuestPath(path: GuestPath): Buffer[] {
  const bytes = typeof path === 'string' ? Buffer.from(path) : path;
  if (bytes.length > 0 && bytes[0] !== SLASH) throw pathInvalid(path, 'it is not absolute');
  if (bytes.length > PATH_MAX) throw pathInvalid(path, `it is longer than ${PATH_MAX} bytes`);
  return splitComponents(bytes, path);
}

/**
 * Cuts at slashes, also for the target of a symlink.
 * @param asked the path to name in an error
 */
export function splitComponents(bytes: Buffer, asked: GuestPath): Buffer[] {
  if (bytes.includes(0)) throw pathInvalid(asked, 'it holds a NUL byte');
  const components: Buffer[] = [];
  let start = 0;
  for (let end = 0; end <= bytes.length; end += 1) {
    if (end < bytes.length && bytes[end] !== SLASH) continue;
    const component = bytes.subarray(start, end);
    start = end + 1;
    if (component.length === 0 || isDot(component)) continue;
    if (component.length > NAME_MAX)
      throw pathInvalid(asked, `a name in it is longer than ${NAME_MAX} bytes`);
    components.push(component);
  }
  return components;
}

export const isAbsoluteTarget = (target: Buffer): boolean => target[0] === SLASH;
export const isDotDot = (name: Buffer): boolean => name.length === 2 && name[0] === 0x2e && name[1] === 0x2e;
const isDot = (name: Buffer): boolean => name.length === 1 && name[0] === 0x2e;

/** Joins components to an absolute path. */
export function joinGuestPath(components: readonly Buffer[]): Buffer {
  const slash = Buffer.from('/');
  return components.length === 0
    ? slash
    : Buffer.concat(components.flatMap((component) => [slash, component]));
}
