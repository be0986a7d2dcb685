import { randomBytes, randomUUID } from 'node:crypto';
import { compactTimestamp } from './clock.ts';

/** Names that are safe in a path, an id and an export: what `vm add` accepts. */
export const vmNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Ids we made ourselves, as they come back in a REST path. */
export const idPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

export const newUuid = (): string => randomUUID();

/** Sorts by time, unique without coordination: `job-20251004-120000-a1b2c3`. */
export function newJobId(now: Date): string {
  return `job-${compactTimestamp(now)}-${randomBytes(3).toString('hex')}`;
}

export function newMountId(): string {
  return `mount-${randomBytes(6).toString('hex')}`;
}

export function newLiveId(): string {
  return `live-${randomBytes(6).toString('hex')}`;
}

/** `ctx-<vm>-<YYYYMMDD-HHMMSS>`. */
export function contextIdFor(vmName: string, now: Date): string {
  return `ctx-${vmName}-${compactTimestamp(now)}`;
}

/** `backup-<vm>-<YYYYMMDDHHMMSS>`, with `-2`, `-3` … while `isTaken` says so. */
export function backupIdFor(vmName: string, now: Date, isTaken: (id: string) => boolean): string {
  return firstFree(`backup-${vmName}-${compactTimestamp(now).replace('-', '')}`, isTaken);
}

/** Adds the first suffix that makes the name unique. */
export function firstFree(name: string, isTaken: (name: string) => boolean): string {
  let candidate = name;
  for (let suffix = 2; isTaken(candidate); suffix += 1) candidate = `${name}-${suffix}`;
  return candidate;
}

/** `<id of the original>.<8 hex digits of the repository>`: the same however often and from wherever it is copied. */
export const copyIdFor = (backupId: string, repositoryId: string): string =>
  `${originalOf(backupId)}.${repositoryId.slice(0, 8)}`;

/** The restore point of which this is a copy, or itself. An id of our own never ends with a point and 8 hex digits. */
export const originalOf = (backupId: string): string => backupId.replace(/\.[0-9a-f]{8}$/, '');
