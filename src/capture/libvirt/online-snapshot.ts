import { NbdConnection, probeExport } from '../../nbd/client/nbd-connection.ts';
import type { SourceSpec } from '../../nbd/mover/read/source-spec.ts';
import type { Snapshot, SnapshotDisk, SnapshotOptions } from '../source.ts';
import { type Begun, beginBackup } from './begin-backup.ts';
import { changeIdOf, parseChangeId, savedCheckpoint } from './checkpoints.ts';
import { saveConfiguration } from './configuration.ts';
import type { LibvirtConnection } from './connection.ts';
import { whileFrozen } from './freeze.ts';
import type { Forwarded } from './host/host.ts';
import { endBackup } from './leftover.ts';
import { watchScratch } from './scratch.ts';
import { dirtyContext } from './xml/backup-xml.ts';
import type { DomainDisk } from './xml/domain-xml.ts';

interface OnlineRequest {
  readonly domain: string;
  readonly nvramPath: string | null;
  /** Of all disks. */
  readonly totalBytes: number;
  readonly disks: readonly DomainDisk[];
  /** All targets of the domain, also those that are left out. */
  readonly targets: readonly string[];
  readonly machineUuid: string;
  readonly freeze: boolean;
  /** A paused guest does not answer its agent. */
  readonly isPaused: boolean;
  /** A command froze it already. */
  readonly isFrozen: boolean;
}

/** A running machine: libvirt shows all its disks as they are at one instant, over NBD. */
export async function snapshotOnline(
  connection: LibvirtConnection,
  request: OnlineRequest,
  options: SnapshotOptions,
): Promise<Snapshot> {
  const { domain } = request;
  const mayFreeze = request.freeze && !request.isPaused;
  const begin = () => beginBackup(connection, { ...request, mayFreeze }, options);
  const { result: begun, wasFrozen } = mayFreeze
    ? await whileFrozen(connection.virsh, domain, options.warn, begin)
    : { result: await begin(), wasFrozen: false };
  let forwarded: Forwarded | null = null;
  const watch = watchScratch(connection, request.totalBytes, async (reason) => {
    options.warn(`The backup was given up before writes of the guest fail: ${reason}.`);
    await endBackup(connection, begun.leftover);
  });
  const close = async () => {
    await watch[Symbol.asyncDispose]();
    await forwarded?.[Symbol.asyncDispose]();
    await endBackup(connection, begun.leftover);
  };
  try {
    forwarded = await connection.host.forward(begun.socket);
    const { socketPath } = forwarded;
    const disks = await Promise.all(
      request.disks.map((disk) => snapshotDisk(disk, socketPath, begun, request.domain)),
    );
    const checkpoint =
      begun.checkpoint === null ? null : await savedCheckpoint(connection.virsh, domain, begun.checkpoint);
    return {
      consistency: request.isFrozen ? 'application' : wasFrozen ? 'filesystem' : 'crash',
      disks,
      configuration: await saveConfiguration(connection, domain, request.nvramPath, checkpoint, options.warn),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function snapshotDisk(
  { target, format }: DomainDisk,
  socketPath: string,
  begun: Begun,
  domain: string,
): Promise<SnapshotDisk> {
  const endpoint = { socketPath, exportName: target };
  const { sizeBytes } = await probeExport(endpoint, 15_000);
  const whole: SourceSpec = { kind: 'nbd', path: target, sizeBytes, endpoint };
  const isTracked = begun.checkpoint !== null && begun.tracked.includes(target);
  return {
    key: target,
    sizeBytes,
    changeId: isTracked ? changeIdOf({ domain, checkpoint: begun.checkpoint ?? '', target }) : null,
    open: async () => whole,
    changedSince: async (changeId) => {
      const since = parseChangeId(changeId)?.checkpoint;
      const lost = begun.lost.get(target);
      if (lost !== undefined) return { lost };
      if (since === undefined || begun.since.get(target) !== since)
        return {
          lost: format === 'qcow2' ? 'the backup was begun without them' : 'a raw disk has no bitmap',
        };
      const context = dirtyContext(target);
      return (await hasContext(endpoint, context))
        ? { ...whole, changes: [{ endpoint, context }] }
        : { lost: `libvirt does not show the bitmap of ${since}` };
    },
  };
}

async function hasContext(endpoint: { socketPath: string; exportName: string }, context: string) {
  await using connection = await NbdConnection.connect(endpoint, { statusContext: context });
  return connection.canReportStatus;
}
