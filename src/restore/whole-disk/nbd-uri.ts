import { SendenseError } from '../../base/sendense-error.ts';
import type { NbdNode } from '../../qemu/block-graph.ts';

const DEFAULT_PORT = '10809';

export const isNbdUri = (text: string): boolean => /^nbds?(\+[a-z]+)?:/i.test(text);

/**
 * `nbd://host[:port]/export` and `nbd+unix:///export?socket=/path`, as in the NBD project's doc/uri.md.
 * @throws OUTPUT_INVALID
 */
export function parseNbdUri(uri: string): NbdNode {
  const refuse = (detail: string) => new SendenseError('OUTPUT_INVALID', { path: uri, detail });
  const match = /^(nbd|nbd\+unix):\/\/([^/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(uri);
  if (!match) throw refuse('it is no nbd://HOST[:PORT]/EXPORT nor nbd+unix:///EXPORT?socket=PATH');
  const [, scheme, authority = '', rawName = '', rawQuery = ''] = match;
  const name = decode(rawName);
  if (name === null || name.includes('\0')) throw refuse('its export name cannot be decoded');
  if (scheme === 'nbd+unix') {
    const path = new URLSearchParams(rawQuery).get('socket');
    if (authority !== '') throw refuse('a unix socket has no host; write nbd+unix:///EXPORT?socket=PATH');
    if (path === null || !path.startsWith('/') || path.includes('\0'))
      throw refuse('?socket= must be the absolute path of a socket');
    return { driver: 'nbd', server: { type: 'unix', path }, export: name };
  }
  const place = /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(authority);
  const port = place?.[2] ?? DEFAULT_PORT;
  if (!place || Number(port) < 1 || Number(port) > 65_535) throw refuse('it names no host');
  if (rawQuery !== '') throw refuse('it has options that are not known');
  const host = (place[1] ?? '').replace(/^\[|\]$/g, '');
  return { driver: 'nbd', server: { type: 'inet', host, port }, export: name };
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
