import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { nodeNames } from '../../nbd/exports/node-names.ts';
import type { SourceSpec } from '../../nbd/mover/read/source-spec.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { MachineRef, Snapshot, SnapshotDisk, SnapshotMemory, Source } from '../source.ts';
import { areImagesUnchanged, rememberedImages, rememberImages } from './image-memory.ts';
import { type InspectedDisk, inspectDisk } from './inspect-disk.ts';
import { sourceGraph } from './source-graph.ts';

interface ImageSourceDeps {
  readonly daemon: StorageDaemon;
}

/**
 * Image files and block devices of this host. There is no snapshot and no change tracking: the disk is read as it
 * is, whole, once; a `before` command can hold the application still meanwhile.
 */
export function imageSource(deps: ImageSourceDeps): Source {
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
      const memory = await rememberImages(inspected, machine);
      return snapshotOf(deps, machine, inspected, memory);
    },
    takeUp: (machine, memory) => snapshotOf(deps, machine, rememberedImages(memory), memory),
  };
}

function snapshotOf(
  { daemon }: ImageSourceDeps,
  machine: MachineRef,
  inspected: readonly InspectedDisk[],
  memory: SnapshotMemory | null,
): Snapshot {
  const opened: string[] = [];
  const disks = inspected.map(
    (disk): SnapshotDisk => ({
      key: disk.path,
      sizeBytes: disk.sizeBytes,
      changeId: null,
      open: async () => {
        if (disk.format === 'raw') return rawSpec(disk);
        const node = nodeNames.next();
        const spec = await openQcow2(daemon, node, disk, {
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
    ...(memory === null ? {} : { memory, isStillSame: () => areImagesUnchanged(machine, memory) }),
    [Symbol.asyncDispose]: async () => {
      for (const node of opened) await daemon.closeImage(node);
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
