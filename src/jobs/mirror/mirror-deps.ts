import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pLimit from 'p-limit';
import type { Clock } from '../../base/clock.ts';
import type { Logger } from '../../base/logger.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { MirrorRecord } from '../../catalog/mirrors/mirrors.ts';
import type { MirrorAccess, MirrorTask, TaskResults } from '../../mirror/program/mirror-task.ts';
import { runTask } from '../../mirror/program/run-task.ts';
import type { Capabilities, StorePlace } from '../../mirror/store/object-store.ts';
import type { JobEngine } from '../job-engine.ts';
import type { Repositories } from '../repository/repositories.ts';
import type { ResourceLocks } from '../resource-locks.ts';

export interface MirrorDeps {
  readonly catalog: Catalog;
  readonly clock: Clock;
  readonly engine: JobEngine;
  readonly locks: ResourceLocks;
  readonly logger: Logger;
  readonly repositories: Repositories;
  /** The program `sendense-mirror`. */
  readonly mirrorFile: string;
  /** Master keys and indexes, a folder for each mirror. */
  readonly stateFolder: string;
  /** For sockets. */
  readonly runFolder: string;
  /** Whose mirrors these are; the same as long as the home lives. */
  readonly applianceId: string;
  /** One piece of work at a time with each mirror. */
  readonly laneOf: (mirror: string) => ReturnType<typeof pLimit>;
}

/** @throws MIRROR_UNKNOWN */
export function findRecord({ catalog }: Pick<MirrorDeps, 'catalog'>, name: string): MirrorRecord {
  const record = catalog.mirrors.byName(name);
  if (!record) throw new SendenseError('MIRROR_UNKNOWN', { mirror: name });
  return record;
}

export const folderOf = ({ stateFolder }: Pick<MirrorDeps, 'stateFolder'>, name: string): string =>
  join(stateFolder, name);
export const indexFileOf = (deps: Pick<MirrorDeps, 'stateFolder'>, name: string): string =>
  join(folderOf(deps, name), 'index.db');
export const masterFileOf = (deps: Pick<MirrorDeps, 'stateFolder'>, name: string): string =>
  join(folderOf(deps, name), 'master.key');

/** For people. */
export const placeLabel = ({
  endpoint,
  bucket,
  prefix,
}: Pick<MirrorRecord, 'endpoint' | 'bucket' | 'prefix'>) =>
  `${endpoint.replace(/\/+$/, '')}/${bucket}/${prefix}`;

/** A secret in a file of its own; a newline at its end is not a part of it. @throws MIRROR_INVALID */
export async function readSecret(path: string, what: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new SendenseError(
      'MIRROR_INVALID',
      { detail: `${what} cannot be read: ${messageOf(error)}` },
      error,
    );
  }
  const secret = text.replace(/\r?\n$/, '');
  if (secret === '') throw new SendenseError('MIRROR_INVALID', { detail: `${what} ${path} is empty` });
  return secret;
}

export type PlaceFiles = Pick<
  MirrorRecord,
  'endpoint' | 'region' | 'bucket' | 'prefix' | 'accessKey' | 'secretKeyFile' | 'pathStyle' | 'tlsCaFile'
>;

export async function storePlace(files: PlaceFiles, capabilities: Capabilities | null): Promise<StorePlace> {
  const { endpoint, region, bucket, prefix, accessKey, secretKeyFile, pathStyle, tlsCaFile } = files;
  return {
    endpoint,
    region,
    bucket,
    prefix,
    accessKey,
    secretKey: await readSecret(secretKeyFile, 'the file of the secret key'),
    pathStyle,
    tlsCa: tlsCaFile === null ? null : await readSecret(tlsCaFile, 'the file of the authority'),
    capabilities,
  };
}

/** Everything that opens a mirror; made anew for each piece of work, so that a new secret is used at once. */
export async function accessOf(deps: MirrorDeps, record: MirrorRecord): Promise<MirrorAccess> {
  const capabilities = record.capabilities as Capabilities | null;
  return {
    place: await storePlace(record, capabilities),
    label: placeLabel(record),
    mirrorId: record.mirrorId,
    mode: record.mode,
    blockBytes: record.blockBytes,
    master: record.isEncrypted ? await readSecret(masterFileOf(deps, record.name), 'the master key') : null,
    applianceId: deps.applianceId,
    epoch: record.epoch,
  };
}

/** For short questions, outside of a job. */
export async function ask<T extends MirrorTask>(deps: MirrorDeps, task: T): Promise<TaskResults[T['task']]> {
  return await runTask({ mirrorFile: deps.mirrorFile, task, signal: new AbortController().signal });
}

/** Looks again at what is in the mirror, and remembers it. @returns names of points that cannot be read */
export async function refreshPoints(deps: MirrorDeps, record: MirrorRecord): Promise<readonly string[]> {
  const known = deps.catalog.mirrors.points(record.name);
  const access = await accessOf(deps, record);
  const { points, damaged } = await ask(deps, { task: 'points', access, known });
  deps.catalog.mirrors.replacePoints(record.name, points);
  return damaged;
}

/** @throws MIRROR_READ_ONLY */
export function refuseReader(record: MirrorRecord): void {
  if (record.epoch === null) throw new SendenseError('MIRROR_READ_ONLY', { mirror: record.name });
}
