import type { BigIntStats, Stats } from 'node:fs';

export type FileType = 'file' | 'directory' | 'symlink' | 'block' | 'char' | 'fifo' | 'socket' | 'other';

export function fileTypeOf(stat: Stats | BigIntStats): FileType {
  if (stat.isFile()) return 'file';
  if (stat.isDirectory()) return 'directory';
  if (stat.isSymbolicLink()) return 'symlink';
  if (stat.isBlockDevice()) return 'block';
  if (stat.isCharacterDevice()) return 'char';
  if (stat.isFIFO()) return 'fifo';
  return stat.isSocket() ? 'socket' : 'other';
}

/** The furthest that a JavaScript date reaches, in milliseconds; a guest's inode may claim more. */
const DATE_LIMIT_MS = 8.64e15;

export function isoTime(timeMs: number | bigint): string {
  return new Date(Math.max(-DATE_LIMIT_MS, Math.min(DATE_LIMIT_MS, Number(timeMs)))).toISOString();
}
