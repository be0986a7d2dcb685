import { z } from 'zod';
import type { FilesystemStatus } from '../mount/mounted-filesystem.ts';

const statuses: readonly FilesystemStatus[] = [
  'mounted',
  'unsupported',
  'swap',
  'empty',
  'failed',
  'locked',
  'container',
];

/** A folder name on this machine. The VM may be in the hands of a guest: nothing it says is trusted. */
const key = z.string().regex(/^[a-z][A-Za-z0-9+_.-]{0,230}$/);
const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(2000).nullable();

const foundFilesystem = z.object({
  type: z.literal('filesystem'),
  key,
  disks: z.array(z.number().int().min(0)).max(1000),
  partition: z.number().int().min(1).nullable(),
  offset: bytes,
  size: bytes,
  fs_type: text,
  label: text,
  uuid: text,
  status: z.enum(statuses),
  degraded: text,
  detail: text,
});

export type FoundFilesystem = z.infer<typeof foundFilesystem>;

export const vmMessage = z.discriminatedUnion('type', [
  foundFilesystem,
  z.object({ type: z.literal('ready') }),
  z.object({ type: z.literal('alive') }),
]);

/** The text behind blkid's `\xNN`; what is no UTF-8 becomes U+FFFD. */
export function decodeBlkid(text: string | null): string | null {
  if (text === null) return null;
  const parts: Buffer[] = [];
  for (const part of text.split(/(\\x[0-9a-fA-F]{2})/)) {
    const hex = /^\\x([0-9a-fA-F]{2})$/.exec(part)?.[1];
    parts.push(hex === undefined ? Buffer.from(part) : Buffer.from(hex, 'hex'));
  }
  return Buffer.concat(parts).toString('utf8');
}
