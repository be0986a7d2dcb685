import { SendenseError } from '../base/sendense-error.ts';

/** Where everything lies below the prefix of a mirror. */
export const layout = {
  format: 'repo/format.json',
  owner: 'repo/owner.json',
  keys: 'repo/keys/',
  key: (slot: number) => `repo/keys/${slot}.json`,
  metadata: 'metadata/',
  point: (name: string) => `metadata/${name}/`,
  manifest: (name: string) => `metadata/${name}/manifest.json`,
  /** The manifest of a point that was deleted and that others still stand on. */
  retired: (name: string) => `metadata/${name}/retired.json`,
  chain: (name: string) => `metadata/${name}/chain.json`,
  rows: (name: string) => `metadata/${name}/blocks.json`,
  blocks: 'blocks/',
  block: (point: string, offset: number, size: number) => `blocks/${point}/block-${offset}-${size}`,
  packs: 'packs/',
  pack: (id: string) => `packs/${id.slice(0, 2)}/${id}`,
  uploads: 'uploads/',
  session: (point: string, id: string) => `uploads/${point}/${id}.json`,
  condemned: 'gc/condemned/',
  condemnedRun: (id: string) => `gc/condemned/${id}.json`,
} as const;

/** The restore point of one disk. */
export const pointNameFor = (backupId: string, diskIndex: number): string => `${backupId}-disk${diskIndex}`;

/** The id in the key of a pack; null for anything else. */
export const packIdIn = (key: string): string | null =>
  /^packs\/[0-9a-f]{2}\/([0-9a-f-]{36})$/.exec(key)?.[1] ?? null;

/** The point of `metadata/<point>/manifest.json`; null for anything else. */
export const pointIn = (key: string): string | null =>
  /^metadata\/([^/]+)\/manifest\.json$/.exec(key)?.[1] ?? null;

/** @throws MIRROR_INVALID when a prefix could be mistaken */
export function cleanPrefix(text: string): string {
  const trimmed = text.replace(/^\/+|\/+$/g, '');
  if (trimmed === '') return '';
  if (!/^[A-Za-z0-9._/-]{1,200}$/.test(trimmed) || /(^|\/)\.{1,2}(\/|$)|\/\//.test(trimmed))
    throw new SendenseError('MIRROR_INVALID', { detail: `${JSON.stringify(text)} is no prefix` });
  return `${trimmed}/`;
}
