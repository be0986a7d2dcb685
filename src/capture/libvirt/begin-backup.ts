import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { SnapshotOptions } from '../source.ts';
import {
  listCheckpoints,
  newCheckpointName,
  ownPrefix,
  parseChangeId,
  redefineCheckpoint,
} from './checkpoints.ts';
import { type LibvirtConnection, withXmlFile } from './connection.ts';
import { complaintOf } from './host/virsh.ts';
import { cleanUpLeftover, endStaleBackup, type LibvirtLeftover } from './leftover.ts';
import { type BackupDisk, backupXml, checkpointXml } from './xml/backup-xml.ts';
import type { DomainDisk } from './xml/domain-xml.ts';

export interface BeginRequest {
  readonly domain: string;
  readonly disks: readonly DomainDisk[];
  readonly targets: readonly string[];
  readonly machineUuid: string;
  readonly mayFreeze: boolean;
}

/** A backup that libvirt has begun. */
export interface Begun {
  /** On the libvirt host. */
  readonly socket: string;
  readonly checkpoint: string | null;
  /** Targets that the checkpoint covers. */
  readonly tracked: readonly string[];
  /** Target → the checkpoint whose changes are shown. */
  readonly since: ReadonlyMap<string, string>;
  /** Target → why its changes are not shown although they were wanted. */
  readonly lost: ReadonlyMap<string, string>;
  readonly leftover: LibvirtLeftover;
}

/**
 * Begins a pull backup with a new checkpoint. Disks whose bitmap is not good any more are shown whole; the others are
 * not made to suffer for it.
 * @throws SOURCE_BUSY when another backup or migration of the domain runs, LIBVIRT_FAILED, CANCELLED
 */
export async function beginBackup(
  connection: LibvirtConnection,
  request: BeginRequest,
  options: SnapshotOptions,
): Promise<Begun> {
  const { virsh, scratchFolder } = connection;
  const { domain, disks, machineUuid } = request;
  const since = new Map<string, string>();
  const lost = new Map<string, string>();
  await chooseBases(connection, request, options, since, lost);
  const name = `${ownPrefix(machineUuid)}${randomBytes(4).toString('hex')}`;
  const socket = join(scratchFolder, `${name}.sock`);
  const scratchOf = (target: string) => join(scratchFolder, `${name}-${target}.scratch`);
  const tracked = disks.filter(({ format }) => format === 'qcow2').map(({ target }) => target);
  const checkpoint = tracked.length === 0 ? null : newCheckpointName(machineUuid, new Date());
  const leftover: LibvirtLeftover = {
    domain,
    socket,
    checkpoint,
    scratch: disks.map(({ target }) => scratchOf(target)),
    mayBeFrozen: request.mayFreeze,
  };
  options.willMake({ ...leftover });
  const all = (): BackupDisk[] =>
    request.targets.map((target) => ({
      target,
      isTaken: disks.some((disk) => disk.target === target),
      since: since.get(target) ?? null,
      tracks: tracked.includes(target),
      scratch: scratchOf(target),
    }));
  try {
    for (;;) {
      try {
        await withXmlFile(connection, backupXml(socket, all()), (backupFile) => {
          const xml = checkpoint === null ? null : checkpointXml(checkpoint, all());
          const begin = (more: readonly string[]) =>
            virsh(['backup-begin', domain, backupFile, ...more], { signal: options.signal });
          return xml === null ? begin([]) : withXmlFile(connection, xml, (file) => begin([file]));
        });
        return { socket, checkpoint, tracked, since, lost, leftover };
      } catch (error) {
        // each round gives one disk up at least, so that there is an end
        if (!giveUpBitmap(error, since, lost)) throw asBusy(error, domain);
      }
    }
  } catch (error) {
    await cleanUpLeftover(connection, leftover);
    throw error;
  }
}

/** For each disk the checkpoint since which changes are wanted, when libvirt knows it. */
async function chooseBases(
  connection: LibvirtConnection,
  request: BeginRequest,
  options: SnapshotOptions,
  since: Map<string, string>,
  lost: Map<string, string>,
): Promise<void> {
  const { virsh } = connection;
  const known = new Set(await listCheckpoints(virsh, request.domain, options.signal));
  for (const { target, format } of request.disks) {
    const remembered = options.since[target];
    const point = remembered === undefined ? null : parseChangeId(remembered.changeId);
    if (remembered === undefined) continue;
    if (point === null) lost.set(target, 'the last backup was made from another source');
    else if (point.domain !== request.domain) lost.set(target, 'the last backup is of another domain');
    else if (point.target !== target) lost.set(target, `the last backup is of the disk ${point.target}`);
    else if (format !== 'qcow2') lost.set(target, 'a raw disk has no bitmap');
    else if (known.has(point.checkpoint)) since.set(target, point.checkpoint);
    else {
      const xml = remembered.configuration?.checkpoint_xml ?? null;
      const isBack = xml !== null && (await redefineCheckpoint(connection, request.domain, xml, true));
      if (isBack) {
        known.add(point.checkpoint);
        since.set(target, point.checkpoint);
      } else lost.set(target, `libvirt has no checkpoint ${point.checkpoint} any more`);
    }
  }
}

/** @returns false when libvirt complained of something else */
function giveUpBitmap(error: unknown, since: Map<string, string>, lost: Map<string, string>): boolean {
  const complaint = complaintOf(error);
  if (complaint === null) return false;
  const isOfBitmap = /bitmap '[^']*' for disk|for incremental backup of disk|checkpoint inconsistent/i.test(
    complaint,
  );
  if (!isOfBitmap) return false;
  const [, target] = /disk '([^']+)'/.exec(complaint) ?? [];
  // which one it means is not said: then none is trusted
  const given = target !== undefined && since.has(target) ? [target] : [...since.keys()];
  for (const one of given) {
    since.delete(one);
    lost.set(one, `libvirt says "${complaint}"`);
  }
  return given.length > 0;
}

function asBusy(error: unknown, domain: string): unknown {
  const complaint = complaintOf(error) ?? '';
  return /state change lock|another job|backup.*(active|running|progress)/i.test(complaint)
    ? new SendenseError('SOURCE_BUSY', { machine: domain, detail: complaint }, error)
    : error;
}

/**
 * libvirt lets a second backup wait for half a minute before it refuses it, so it is asked beforehand. A backup of ours
 * that runs is what a dead daemon left: nobody else makes sockets of this name.
 * @throws SOURCE_BUSY
 */
export async function refuseSecondJob(
  connection: LibvirtConnection,
  domain: string,
  machineUuid: string,
): Promise<void> {
  const kind = await jobOf(connection, domain);
  if (kind === null) return;
  if (kind === 'Backup' && (await endStaleBackup(connection, domain, machineUuid))) return;
  throw new SendenseError('SOURCE_BUSY', { machine: domain, detail: `libvirt is busy with "${kind}"` });
}

/** What libvirt does with the domain just now; null: nothing. */
export async function jobOf({ virsh }: LibvirtConnection, domain: string): Promise<string | null> {
  const text = await virsh(['domjobinfo', domain]);
  if (/^Job type:\s+None/m.test(text)) return null;
  return /^Operation:\s+(.*\S)/m.exec(text)?.[1] ?? 'a job';
}
