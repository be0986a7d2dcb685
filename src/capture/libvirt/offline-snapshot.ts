import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import { probeExport } from '../../nbd/client/nbd-connection.ts';
import type { ChangeMap, SourceSpec } from '../../nbd/mover/read/source-spec.ts';
import type { Snapshot, SnapshotDisk, SnapshotOptions } from '../source.ts';
import { changeIdOf, listCheckpoints, ownPrefix, parseChangeId, savedCheckpoint } from './checkpoints.ts';
import { saveConfiguration } from './configuration.ts';
import type { LibvirtConnection } from './connection.ts';
import type { Forwarded } from './host/host.ts';
import { type ChainImage, readImageChain } from './image-chain.ts';
import type { DomainDisk } from './xml/domain-xml.ts';

export interface OfflineRequest {
  readonly domain: string;
  readonly disks: readonly DomainDisk[];
  readonly nvramPath: string | null;
  readonly machineUuid: string;
  /** It was shut down, not killed. */
  readonly isClean: boolean;
}

/**
 * A machine that is off: its images are read by qemu-nbd, whose lock keeps it from being started meanwhile. libvirt makes
 * no checkpoint then, and none is needed: the newest one goes on telling what changes after the next start.
 */
export async function snapshotOffline(
  connection: LibvirtConnection,
  request: OfflineRequest,
  options: SnapshotOptions,
): Promise<Snapshot> {
  const { virsh, host } = connection;
  const { domain, disks } = request;
  const opened: Forwarded[] = [];
  const close = async () => {
    await Promise.all(opened.map((server) => server[Symbol.asyncDispose]()));
  };
  const serve = async (image: ChainImage, bitmap: string | null) => {
    const socket = join(
      connection.scratchFolder,
      `${ownPrefix(request.machineUuid)}${randomBytes(4).toString('hex')}.sock`,
    );
    options.willMake({ domain, socket, checkpoint: null, scratch: [], mayBeFrozen: false });
    const args = ['-r', '-t', '-e', '16', '-f', image.format, '-k', socket];
    const bitmapArgs = bitmap === null ? [] : ['-B', bitmap];
    const server = await host.serve('qemu-nbd', [...args, ...bitmapArgs, '--', image.path], socket);
    opened.push(server);
    return server.socketPath;
  };
  try {
    const checkpoints = await listCheckpoints(virsh, domain, options.signal);
    const snapshots: SnapshotDisk[] = [];
    for (const disk of disks)
      snapshots.push(await offlineDisk(connection, { ...request, checkpoints }, disk, serve));
    const newest = snapshots
      .map(({ changeId }) => (changeId === null ? null : (parseChangeId(changeId)?.checkpoint ?? null)))
      .find((name) => name !== null);
    const checkpointXml = newest === undefined ? null : await savedCheckpoint(virsh, domain, newest ?? '');
    return {
      consistency: request.isClean ? 'application' : 'crash',
      disks: snapshots,
      configuration: await saveConfiguration(
        connection,
        domain,
        request.nvramPath,
        checkpointXml,
        options.warn,
      ),
      [Symbol.asyncDispose]: close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

type Serve = (image: ChainImage, bitmap: string | null) => Promise<string>;

async function offlineDisk(
  connection: LibvirtConnection,
  request: OfflineRequest & { readonly checkpoints: readonly string[] },
  disk: DomainDisk,
  serve: Serve,
): Promise<SnapshotDisk> {
  const { target, path, format } = disk;
  const { domain, checkpoints } = request;
  if (path === null || format === null)
    throw new SendenseError('SOURCE_UNREADABLE', {
      path: `${target} of domain ${domain}`,
      detail: 'it is no file and no block device there; such a disk is backed up only while the machine runs',
    });
  const chain = await readImageChain(connection.host, path, format);
  const [top] = chain;
  if (!top) throw new SendenseError('SOURCE_UNREADABLE', { path, detail: 'qemu-img says nothing of it' });
  const endpoint = { socketPath: await serve(top, null), exportName: '' };
  const { sizeBytes } = await probeExport(endpoint, 15_000);
  const whole: SourceSpec = { kind: 'nbd', path: target, sizeBytes, endpoint };
  const own = checkpoints.filter((name) => name.startsWith(ownPrefix(request.machineUuid)));
  // what was written since the newest good checkpoint is more than what was written since now: never too little
  const newest = own.findLast((name) => trouble(chain, [name]) === null);
  return {
    key: target,
    sizeBytes,
    changeId: newest === undefined ? null : changeIdOf({ domain, checkpoint: newest, target }),
    open: async () => whole,
    changedSince: async (changeId) => {
      const point = parseChangeId(changeId);
      if (point === null || point.domain !== domain || point.target !== target)
        return { lost: 'the last backup is of another domain or disk' };
      const position = checkpoints.indexOf(point.checkpoint);
      if (position < 0) return { lost: `libvirt has no checkpoint ${point.checkpoint} any more` };
      // an old libvirt lets a bitmap rest once there is a newer one; the union is right for both
      const later = checkpoints
        .slice(position)
        .filter((name) => name === point.checkpoint || chain.some((image) => image.bitmaps.has(name)));
      const lost = trouble(chain, later);
      if (lost !== null) return { lost };
      const changes: ChangeMap[] = [];
      // qemu-nbd shows one bitmap of one image; a snapshot leaves those of before in the image below
      for (const image of chain)
        for (const name of later)
          if (image.bitmaps.has(name))
            changes.push({
              endpoint: { socketPath: await serve(image, name), exportName: '' },
              context: `qemu:dirty-bitmap:${name}`,
            });
      return { ...whole, changes };
    },
  };
}

/** Why these bitmaps do not tell all changes; null: they do. */
function trouble(chain: readonly ChainImage[], names: readonly string[]): string | null {
  const [top] = chain;
  for (const name of names) {
    const states = chain.map((image) => image.bitmaps.get(name));
    if (states.every((state) => state === undefined)) return `the bitmap ${name} is not in the image`;
    if (states.some((state) => state === 'inconsistent'))
      return `the bitmap ${name} was not saved, probably because QEMU was killed`;
  }
  // the writes of the image on top are tracked by a bitmap in it, or by nobody
  if (top && !names.some((name) => top.bitmaps.get(name) === 'recording'))
    return 'no bitmap in the image records what is written to it';
  return null;
}
