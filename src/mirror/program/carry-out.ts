import { SendenseError } from '../../base/sendense-error.ts';
import { MirrorIndex } from '../../catalog/mirrors/mirror-index.ts';
import { collectGarbage } from '../collect/collect-garbage.ts';
import { deletePoints } from '../collect/delete-points.ts';
import { KeyRing } from '../crypto/key-ring.ts';
import { addSlot, listSlots, newRecoveryKey, removeSlot } from '../crypto/key-slots.ts';
import type { Mirror, MirrorWriter } from '../mirror.ts';
import { claimMirror } from '../owner.ts';
import { rebuildIndex } from '../points/rebuild-index.ts';
import { summarizePoints } from '../points/summarize-points.ts';
import { serveMirror } from '../read/serve-mirror.ts';
import { describePoints } from '../read/write-rows.ts';
import { lockPoints } from '../retention/lock-points.ts';
import { createMirror, type FoundMirror, findMirror } from '../set-up.ts';
import { Pacer } from '../store/pacer.ts';
import { probeStore } from '../store/probe-store.ts';
import { Requests } from '../store/requests.ts';
import { createBucket } from '../store/s3-abilities.ts';
import { S3Store } from '../store/s3-store.ts';
import { takeUpSessions } from '../upload/session.ts';
import { syncBackup } from '../upload/sync-backup.ts';
import { noSyncProgress } from '../upload/sync-progress.ts';
import { verifyMirror } from '../verify/verify-mirror.ts';
import type { MirrorAccess, MirrorTask, Opened, TaskProgress, TaskResults } from './mirror-task.ts';

interface Surroundings {
  readonly signal: AbortSignal;
  readonly progress: TaskProgress;
  readonly onReady: () => void;
}

/** Somebody waits for the answer, and a wrong address stays wrong. */
const SET_UP_TRIES = 2;

type Of<T extends MirrorTask['task']> = Extract<MirrorTask, { task: T }>;

/** Does what the daemon asked for. @throws MIRROR_… */
export async function carryOut(
  task: MirrorTask,
  around: Surroundings,
): Promise<TaskResults[MirrorTask['task']]> {
  if (task.task === 'create' || task.task === 'attach') return await open(task, around);
  if (task.task === 'probe')
    return await probeStore(
      new S3Store(task.place, new Requests(around.signal, SET_UP_TRIES)),
      task.wantLock,
    );
  const requests = new Requests(around.signal);
  const store = new S3Store(task.access.place, requests);
  const mirror = mirrorFrom(store, task.access);
  try {
    switch (task.task) {
      case 'points':
        return await summarizePoints(mirror, task.known, mayHaveLocks(task.access));
      case 'sync':
        return await sync(mirror, task, around, requests);
      case 'serve':
        await serveMirror(mirror, task, around);
        return null;
      case 'verify': {
        const { access, deepPercent, run, indexFile } = task;
        using index = indexFile === null ? null : indexOf({ access, indexFile });
        return await verifyMirror(mirror, index, { deepPercent, run, signal: around.signal });
      }
      case 'delete': {
        using index = indexOf(task);
        return await deletePoints(mirror, writerOf(task.access), index, task.points);
      }
      case 'collect': {
        using index = indexOf(task);
        return await collectGarbage(mirror, writerOf(task.access), index, task.graceMs);
      }
      case 'lock': {
        using index = indexOf(task);
        return await lockPoints(mirror, index, task);
      }
      case 'describe':
        return await describePoints(mirror, task.points);
      case 'keys':
        return { keys: await listSlots(store) };
      case 'add-key':
        return await addKey(store, task);
      case 'remove-key':
        writerOf(task.access);
        await removeSlot(store, task.slot);
        return { slot: task.slot };
    }
  } finally {
    store.close();
  }
}

async function open(task: Of<'create' | 'attach'>, { signal }: Surroundings): Promise<Opened> {
  const { place, label, applianceId, wantLock } = task;
  const first = new S3Store(place, new Requests(signal, SET_UP_TRIES));
  if (task.task === 'create' && task.createBucket) await createBucket(first.bucket, wantLock);
  const mayWrite = task.task === 'create' || task.takeOver;
  const capabilities = await (mayWrite ? probeStore(first, wantLock) : unprobed());
  if (wantLock && !capabilities.object_lock)
    throw new SendenseError('MIRROR_UNFIT', {
      endpoint: place.endpoint,
      detail: 'it does not keep object locks, or the bucket was made without them (see --create-bucket)',
    });
  const store = new S3Store({ ...place, capabilities }, new Requests(signal, SET_UP_TRIES));
  const found: FoundMirror =
    task.task === 'create'
      ? await createMirror(store, label, task.wanted)
      : await findMirror(store, label, task.passphrase);
  const claim = { store, capabilities, place: label, applianceId };
  const epoch = mayWrite ? await claimMirror(claim, task.task === 'attach') : null;
  const { mirror_id, mode, block_bytes } = found.document;
  first.close();
  store.close();
  return {
    mirrorId: mirror_id,
    mode,
    blockBytes: block_bytes,
    master: found.master?.toString('hex') ?? null,
    epoch,
    capabilities,
  };
}

/** Who only reads may not be allowed to try what writers need. */
const unprobed = async () => ({
  probed_at: new Date().toISOString(),
  conditional_put: false,
  conditional_replace: false,
  bare_etags: false,
  checks_md5: false,
  multipart: false,
  ranged_get: true,
  delete_many: false,
  versioning: false,
  object_lock: false,
});

function mirrorFrom(store: S3Store, access: MirrorAccess): Mirror {
  const { mirrorId, mode, blockBytes, label } = access;
  const master = access.master === null ? null : Buffer.from(access.master, 'hex');
  return { store, keys: new KeyRing(mirrorId, master), mirrorId, mode, blockBytes, place: label };
}

function writerOf({ applianceId, epoch, label }: MirrorAccess): MirrorWriter {
  if (epoch === null) throw new SendenseError('MIRROR_READ_ONLY', { mirror: label });
  return { applianceId, epoch };
}

/** One that is only read was never asked. */
const mayHaveLocks = ({ epoch, place }: MirrorAccess): boolean =>
  epoch === null || place.capabilities?.object_lock === true;

const indexOf = ({ access, indexFile }: { access: MirrorAccess; indexFile: string }) =>
  new MirrorIndex(indexFile, access.mirrorId);

async function sync(
  mirror: Mirror,
  task: Of<'sync'>,
  { signal, progress }: Surroundings,
  requests: Requests,
): Promise<TaskResults['sync']> {
  const writer = writerOf(task.access);
  using index = indexOf(task);
  const damaged = new Set(task.damaged);
  if (index.points().length === 0) await rebuildIndex(mirror, index, damaged);
  await takeUpSessions(mirror, index, writer);
  const { retention, level, rate, backup } = task;
  Object.assign(progress, noSyncProgress());
  const until = retention === null ? null : new Date(retention.until);
  const result = await syncBackup(
    {
      mirror,
      writer,
      index,
      level,
      retention: until === null || retention === null ? undefined : { mode: retention.mode, until },
      pacer: new Pacer(rate),
      progress,
      signal,
      damaged,
    },
    backup,
  );
  return { ...result, ...progress, ...requests.counts };
}

async function addKey(
  store: S3Store,
  { access, label, passphrase }: Of<'add-key'>,
): Promise<TaskResults['add-key']> {
  writerOf(access);
  if (access.master === null)
    throw new SendenseError('MIRROR_INVALID', { detail: 'it is not encrypted and has no keys' });
  const recoveryKey = passphrase === null ? newRecoveryKey() : null;
  const slot = await addSlot(store, access.mirrorId, Buffer.from(access.master, 'hex'), {
    kind: recoveryKey === null ? 'passphrase' : 'recovery',
    label,
    passphrase: recoveryKey ?? passphrase ?? '',
  });
  return { slot, recoveryKey };
}
