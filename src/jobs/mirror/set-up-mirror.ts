import { mkdir, rm, writeFile } from 'node:fs/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import type { MirrorRecord, MirrorSettings } from '../../catalog/mirrors/mirrors.ts';
import { cleanPrefix } from '../../mirror/layout.ts';
import type { Opened } from '../../mirror/program/mirror-task.ts';
import {
  ask,
  findRecord,
  folderOf,
  type MirrorDeps,
  masterFileOf,
  type PlaceFiles,
  placeLabel,
  readSecret,
  refreshPoints,
  storePlace,
} from './mirror-deps.ts';

export interface MirrorOrder extends PlaceFiles {
  readonly name: string;
  readonly settings: MirrorSettings;
  /** Null: not encrypted, or not known. */
  readonly passphraseFile: string | null;
}

export interface AddOrder extends MirrorOrder {
  readonly mode: 'packed' | 'plain';
  readonly blockBytes: number;
  readonly createBucket: boolean;
}

export interface AttachOrder extends MirrorOrder {
  readonly takeOver: boolean;
}

/** Makes a new mirror in a bucket. @throws MIRROR_… */
export async function addMirror(deps: MirrorDeps, wanted: AddOrder): Promise<MirrorRecord> {
  const order = checked(deps, wanted);
  const opened = await ask(deps, {
    task: 'create',
    place: await storePlace(order, null),
    label: placeLabel(order),
    applianceId: deps.applianceId,
    createBucket: wanted.createBucket,
    wantLock: order.settings.lock !== null,
    wanted: { mode: wanted.mode, blockBytes: wanted.blockBytes, passphrase: await passphraseOf(order) },
  });
  return await remember(deps, order, opened, 'was made');
}

/** Takes a mirror that is there already, to read it or, when its owner is gone, to go on with it. */
export async function attachMirror(
  deps: MirrorDeps,
  wanted: AttachOrder,
): Promise<{ record: MirrorRecord; damaged: readonly string[] }> {
  const order = checked(deps, wanted);
  const opened = await ask(deps, {
    task: 'attach',
    place: await storePlace(order, null),
    label: placeLabel(order),
    applianceId: deps.applianceId,
    passphrase: await passphraseOf(order),
    takeOver: wanted.takeOver,
    wantLock: wanted.takeOver && order.settings.lock !== null,
  });
  const record = await remember(deps, order, opened, 'was attached');
  return { record, damaged: await refreshPoints(deps, record) };
}

function checked<T extends MirrorOrder>(deps: MirrorDeps, order: T): T {
  if (deps.catalog.mirrors.byName(order.name))
    throw new SendenseError('MIRROR_EXISTS', { mirror: order.name });
  if (!/^https?:\/\/[^/\s]+\/?$/.test(order.endpoint))
    throw new SendenseError('MIRROR_INVALID', {
      detail: `the endpoint ${JSON.stringify(order.endpoint)} is not like https://s3.example.org`,
    });
  return { ...order, prefix: cleanPrefix(order.prefix) };
}

const passphraseOf = async ({ passphraseFile }: MirrorOrder): Promise<string | null> =>
  passphraseFile === null ? null : await readSecret(passphraseFile, 'the file of the passphrase');

async function remember(
  deps: MirrorDeps,
  order: MirrorOrder,
  opened: Opened,
  what: string,
): Promise<MirrorRecord> {
  const { name, endpoint, region, bucket, prefix, accessKey, secretKeyFile, pathStyle, tlsCaFile } = order;
  await mkdir(folderOf(deps, name), { recursive: true, mode: 0o700 });
  if (opened.master !== null)
    await writeFile(masterFileOf(deps, name), `${opened.master}\n`, { mode: 0o600, flush: true });
  const record: MirrorRecord = {
    ...{ name, endpoint, region, bucket, prefix, accessKey, secretKeyFile, pathStyle, tlsCaFile },
    mirrorId: opened.mirrorId,
    mode: opened.mode,
    blockBytes: opened.blockBytes,
    isEncrypted: opened.master !== null,
    epoch: opened.epoch,
    capabilities: { ...opened.capabilities },
    settings: order.settings,
    createdAt: deps.clock.now().toISOString(),
  };
  deps.catalog.mirrors.save(record);
  deps.catalog.events.add({
    kind: 'mirror.added',
    severity: 'info',
    subject: name,
    message: `The mirror ${name} at ${placeLabel(record)} ${what}.`,
    data: { mirror_id: record.mirrorId, read_only: record.epoch === null },
  });
  return record;
}

/** What lies in the bucket stays. @throws MIRROR_UNKNOWN, MIRROR_BUSY */
export async function removeMirror(deps: MirrorDeps, name: string): Promise<MirrorRecord> {
  const record = findRecord(deps, name);
  const lane = deps.laneOf(name);
  if (lane.activeCount > 0) throw new SendenseError('MIRROR_BUSY', { mirror: name, holder: 'a job' });
  deps.catalog.mirrors.remove(name);
  await rm(folderOf(deps, name), { recursive: true, force: true });
  deps.catalog.events.add({
    kind: 'mirror.removed',
    severity: 'warning',
    subject: name,
    message: `The mirror ${name} was forgotten; everything at ${placeLabel(record)} stays.`,
    data: { mirror_id: record.mirrorId },
  });
  return record;
}
