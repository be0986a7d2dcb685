import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { nodeNames } from '../../nbd/exports/node-names.ts';
import type { SourceSpec } from '../../nbd/mover/source-spec.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { Snapshot, SnapshotDisk, Source } from '../source.ts';
import { type InspectedDisk, inspectDisk } from './inspect-disk.ts';
import { sourceGraph } from './source-graph.ts';

/**
 * Image files and block devices of this host. There is no snapshot and no change tracking: the disk is read as it
 * is, whole, once; a `before` command can hold the application still meanwhile.
 */
export function imageSource(deps: { readonly daemon: StorageDaemon }): Source {
  return {
    kind: 'image',
    // any file may be a disk: only a person knows
    discover: async function* () {},
    describe: async (machine) => {
      const disks = await Promise.all(
        machine.disks.map(async ({ key, format }) => {
          const { path, sizeBytes } = await inspectDisk(key, format);
          return { key: path, format, sizeBytes };
        }),
      );
      return { name: machine.name, source: machine.source, isRunning: false, disks, leftOut: [] };
    },
    cleanUp: async () => undefined,
    release: async () => undefined,
    snapshot: async (machine) => {
      const inspected = await Promise.all(machine.disks.map((disk) => inspectDisk(disk.key, disk.format)));
      const opened: string[] = [];
      const disks = inspected.map(
        (disk): SnapshotDisk => ({
          key: disk.path,
          sizeBytes: disk.sizeBytes,
          changeId: null,
          open: async () => {
            if (disk.format === 'raw') return rawSpec(disk);
            const node = nodeNames.next();
            const spec = await openQcow2(deps.daemon, node, disk, {
              allowBacking: machine.allowBacking,
              forceShare: machine.isFrozen,
            });
            opened.push(node);
            return spec;
          },
          changedSince: async () => ({ lost: 'image files track no changes' }),
        }),
      );
      return {
        consistency: machine.isFrozen ? 'application' : 'crash',
        disks,
        configuration: null,
        [Symbol.asyncDispose]: async () => {
          for (const node of opened) await deps.daemon.closeImage(node);
        },
      } satisfies Snapshot;
    },
  };
}

const rawSpec = (disk: InspectedDisk): SourceSpec => ({
  kind: 'file',
  path: disk.path,
  sizeBytes: disk.sizeBytes,
  hasHoles: !disk.isBlockDevice,
});

async function openQcow2(
  daemon: StorageDaemon,
  node: string,
  disk: InspectedDisk,
  options: { allowBacking: readonly string[]; forceShare: boolean },
): Promise<SourceSpec> {
  const graph = await sourceGraph(disk.path, options);
  try {
    await daemon.openImage(node, graph);
  } catch (error) {
    const detail = messageOf(error);
    if (/lock/i.test(detail)) throw new SendenseError('SOURCE_IN_USE', { path: disk.path, detail }, error);
    throw new SendenseError('SOURCE_UNREADABLE', { path: disk.path, detail }, error);
  }
  const exportName = `source-${node}`;
  try {
    await daemon.addExport(node, `x${node}`, { type: 'nbd', exportName, writable: false });
  } catch (error) {
    await daemon.closeImage(node);
    throw error;
  }
  return {
    kind: 'nbd',
    path: disk.path,
    sizeBytes: disk.sizeBytes,
    endpoint: { socketPath: daemon.nbdSocket, exportName },
  };
}
