import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import { vmAvailability } from '../vm/vm-image.ts';
import { exposeFolder } from './expose-folder.ts';
import { mountInVm } from './mount-in-vm.ts';
import { type MountMode, possibleMode } from './mount-mode.ts';
import { mountOnHost } from './mount-on-host.ts';
import type { MountRequest, OpenMount, OpenMountDeps, SessionRequest } from './mount-request.ts';
import type { MountedDisks } from './mounted-disks.ts';
import type { MountedFilesystem } from './mounted-filesystem.ts';
import { type UndoOptions, UndoStack } from './undo-stack.ts';

/**
 * Mounts a restore point read-only above an overlay that takes what journal replay writes.
 * @throws MOUNT_FAILED when nothing in it can be mounted, LAYER_REFUSED, CHAIN_PARENT_MISSING, OUTPUT_INVALID,
 *   PRIVILEGE_MISSING, TOOL_FAILED; everything is cleaned up then
 */
export async function openMount(deps: OpenMountDeps, request: MountRequest): Promise<OpenMount> {
  const undo = new UndoStack();
  try {
    return await setUp(deps, request, undo);
  } catch (error) {
    await undo.unwindAll(deps.logger);
    throw error;
  }
}

async function setUp(deps: OpenMountDeps, request: MountRequest, undo: UndoStack): Promise<OpenMount> {
  const { mountId, exposeAt } = request;
  const folder = join(deps.runFolder, 'mounts', mountId);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  undo.push(`remove ${folder}`, () => rm(folder, { recursive: true, force: true }));
  const { mode, mounted } = await mountSomehow(deps, { ...request, folder }, undo);
  const { filesystems } = mounted;
  if (!filesystems.some(({ status }) => status === 'mounted')) throw nothingMounted(filesystems);
  if (exposeAt !== null) await exposeFolder({ work: deps.work, folder }, undo, exposeAt, mounted.shown);

  let closing: Promise<void> | null = null;
  const close = (options: UndoOptions = { force: false }): Promise<void> => {
    closing ??= undo.unwind(options).finally(() => {
      closing = null;
    });
    return closing;
  };
  return {
    mountId,
    mountPath: join(deps.mountFolder, mountId),
    mode,
    filesystems,
    degraded: filesystems.some((filesystem) => filesystem.degraded !== null),
    isLost: mounted.isLost,
    close,
    [Symbol.asyncDispose]: () => close({ force: true }),
  };
}

/** Left to choose, a micro-VM is taken where only one can read what the guest has. */
async function mountSomehow(
  deps: OpenMountDeps,
  request: SessionRequest,
  undo: UndoStack,
): Promise<{ readonly mode: MountMode; readonly mounted: MountedDisks }> {
  const wanted = request.mode ?? deps.mode;
  const mode = possibleMode(wanted, deps.hasPrivileges);
  if (mode === 'vm') return { mode, mounted: await mountInVm(deps, request, undo) };
  const own = new UndoStack();
  undo.push('take down the mounts', (options) => own.unwind(options));
  const mounted = await mountOnHost(deps, request, mode, own);
  const needsVm = wanted === 'auto' && vmHelps(mounted.filesystems, (request.passphrases ?? []).length > 0);
  if (!needsVm || !(await vmAvailability(deps.vmFolder)).isAvailable) return { mode, mounted };
  await own.unwind({ force: true });
  return { mode: 'vm', mounted: await mountInVm(deps, request, undo) };
}

/** True when something was left out that a kernel of its own could show, or everything was. */
function vmHelps(filesystems: readonly MountedFilesystem[], hasPassphrases: boolean): boolean {
  const isEmptyHanded = !filesystems.some(({ status }) => status === 'mounted');
  return filesystems.some(({ status, fsType, detail }) => {
    if (status !== 'unsupported') return false;
    if (fsType === 'crypto_LUKS') return hasPassphrases;
    return isEmptyHanded || (detail ?? '').includes('--mode vm');
  });
}

function nothingMounted(filesystems: readonly MountedFilesystem[]): SendenseError {
  const reasons = filesystems.map(
    ({ key, status, detail, fsType }) => `${key}: ${detail ?? fsType ?? status}`,
  );
  return new SendenseError('MOUNT_FAILED', {
    detail: reasons.length === 0 ? 'it has no disks' : reasons.join('; '),
  });
}
