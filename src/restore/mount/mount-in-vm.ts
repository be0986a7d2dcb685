import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { createOverlay } from '../disk/overlay.ts';
import { openVm } from '../vm/open-vm.ts';
import type { MountDisk } from './mount-disk.ts';
import type { OpenMountDeps, SessionRequest } from './mount-request.ts';
import type { MountedDisks } from './mounted-disks.ts';
import type { UndoStack } from './undo-stack.ts';

/** The one place that holds all file systems of the VM. */
const KEY = 'guest';

/** Mounts the disks in a micro-VM. @throws VM_UNAVAILABLE, VM_FAILED, LAYER_REFUSED, CHAIN_PARENT_MISSING, TOOL_FAILED */
export async function mountInVm(
  deps: OpenMountDeps,
  request: SessionRequest,
  undo: UndoStack,
): Promise<MountedDisks> {
  const { mountId: session, folder } = request;
  const limitBytes = deps.overlayLimitBytes / Math.max(1, request.disks.length);
  const disks = await Promise.all(
    request.disks.map(async (disk) => ({
      diskIndex: disk.diskIndex,
      overlay: await overlayOf(disk, folder, limitBytes),
    })),
  );
  const place = { session, key: KEY };
  const mountPath = await deps.work.makePlace(place);
  undo.push(`clear ${mountPath}`, ({ force }) => deps.work.clearPlace(place, force));
  const vm = await openVm(deps, {
    runFolder: folder,
    mountPath,
    unmount: (force) => deps.work.clearPlace(place, force),
    disks,
    passphrases: request.passphrases ?? [],
  });
  undo.push('close the VM', (options) => vm.close(options));
  return { filesystems: vm.filesystems, shown: [{ ...place, folder: KEY }], isLost: () => vm.isLost() };
}

async function overlayOf({ diskIndex, chain }: MountDisk, folder: string, limitBytes: number) {
  const sizeBytes = await readChainSize(chain);
  const below = readOnlyChain(chain);
  if (below === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
  return await createOverlay(join(folder, `disk${diskIndex}.qcow2`), below, sizeBytes, limitBytes);
}
