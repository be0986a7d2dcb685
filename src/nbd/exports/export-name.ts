import { createHash } from 'node:crypto';
import { compactTimestamp } from '../../base/clock.ts';

export type LayerType = 'full' | 'incremental' | 'differential';

/** As it stands in file and export names. */
export const layerTypeShort = {
  full: 'full',
  incremental: 'incr',
  differential: 'diff',
} as const satisfies Record<LayerType, string>;

/** Longest name that operators' tools take, from the seed documents. */
export const MAX_EXPORT_NAME_CHARACTERS = 63;
const HASH_CHARACTERS = 8;

export interface ExportNameParts {
  readonly contextId: string;
  readonly diskIndex: number;
  readonly type: LayerType;
  readonly startedAt: Date;
  /** From the second on it is part of the name: who still has the first one's reaches nothing. */
  readonly attempt?: number;
}

/**
 * `backup-<context>-disk<N>-<full|incr|diff>-<YYYYMMDDTHHMMSS>[.<attempt>]` in `[a-z0-9.-]` but for that T. A context that is too long or
 * has other characters is cut and given a hash of the whole, so that two machines can never share a name.
 */
export function exportNameFor(parts: ExportNameParts): string {
  const time = compactTimestamp(parts.startedAt).replace('-', 'T');
  const { attempt = 1 } = parts;
  const again = attempt > 1 ? `.${attempt}` : '';
  const tail = `-disk${parts.diskIndex}-${layerTypeShort[parts.type]}-${time}${again}`;
  const room = MAX_EXPORT_NAME_CHARACTERS - 'backup-'.length - tail.length;
  return `backup-${shortContext(parts.contextId, room)}${tail}`;
}

function shortContext(contextId: string, room: number): string {
  const plain = contextId.toLowerCase().replace(/[^a-z0-9.-]/g, '-');
  if (plain === contextId && plain.length <= room) return plain;
  const hash = createHash('sha256').update(contextId).digest('hex').slice(0, HASH_CHARACTERS);
  // "--" stands in no context of ours, so a cut name never equals a whole one
  return `${plain.slice(0, room - HASH_CHARACTERS - 2)}--${hash}`;
}

/** What nbd-server's config and every client take without quoting. */
export const isExportName = (name: string): boolean => /^[a-z0-9.T-]{1,63}$/.test(name);
