import { SendenseError } from '../../../base/sendense-error.ts';

/** Both ends included, as in HTTP. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Reads a `Range` header, RFC 9110 section 14. Several ranges, other units and nonsense are answered with the
 * whole file (null), as the RFC allows.
 * @param sizeBytes size of the file
 * @throws RANGE_INVALID when no byte of the file is asked for
 */
export function parseRange(header: string | undefined, sizeBytes: number): ByteRange | null {
  const match = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header ?? '');
  const [, first = '', last = ''] = match ?? [];
  if (header === undefined || (first === '' && last === '')) return null;
  const isSuffix = first === '';
  if (!isSuffix && last !== '' && Number(last) < Number(first)) return null;
  const start = isSuffix ? Math.max(0, sizeBytes - Number(last)) : Number(first);
  const end = isSuffix || last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1);
  if (start > end) throw new SendenseError('RANGE_INVALID', { range: header, size: sizeBytes });
  return { start, end };
}
