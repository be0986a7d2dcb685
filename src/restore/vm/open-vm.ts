import { existsSync } from 'node:fs';
import { readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '../../base/logger.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import type { MountedFilesystem } from '../mount/mounted-filesystem.ts';
import { type UndoOptions, UndoStack } from '../mount/undo-stack.ts';
import { chooseAccelerator } from './accelerator.ts';
import { ControlChannel } from './control-channel.ts';
import { decodeBlkid, type FoundFilesystem } from './found-filesystem.ts';
import { MAX_VM_DISKS, qemuArguments, type VmDisk } from './qemu-arguments.ts';
import { mountBySshfs } from './sshfs-mount.ts';
import { requireVmImage } from './vm-image.ts';

/** What the kernel and the programs of the VM need; the host only gives what the VM has touched. */
const MEMORY_MIB = 320;
/** LUKS2 makes guessing expensive: its key derivation takes up to 1 GiB. */
const UNLOCK_MEMORY_MIB = 1_536;
/** Most time from one thing found to the next, and for each passphrase on top, under emulation on a busy machine. */
const REPORT_TIMEOUT_MS = 120_000;
const UNLOCK_TIMEOUT_MS = 120_000;
/** The VM says every 5 s that it lives and that reading goes on. */
const SILENCE_LIMIT_MS = 90_000;
const WATCH_INTERVAL_MS = 1_000;
const LOG_TAIL_CHARACTERS = 1_000;

export interface OpenVmDeps {
  readonly logger: Logger;
  /** Where `scripts/build-vm` put the kernel and the initramfs. */
  readonly vmFolder: string;
  /** Remembers whether KVM works on this machine. */
  readonly kvmFile: string;
  readonly reportTimeoutMs?: number;
  readonly silenceLimitMs?: number;
}

export interface OpenVmRequest {
  /** An existing folder for sockets and logs, of this VM alone. */
  readonly runFolder: string;
  /** An existing empty folder; its subfolders will be the keys of what is mounted. */
  readonly mountPath: string;
  /** Unmounts it. @throws MOUNT_BUSY unless forced */
  readonly unmount: (force: boolean) => Promise<void>;
  readonly disks: readonly VmDisk[];
  /** Tried on everything encrypted. */
  readonly passphrases: readonly string[];
}

export interface VmFilesystem extends MountedFilesystem {
  /** All disks that it lies on; `diskIndex` is the first. */
  readonly diskIndexes: readonly number[];
}

/** A guest whose file systems are mounted in a VM and shown in one folder. */
export interface OpenVm extends AsyncDisposable {
  readonly filesystems: readonly VmFilesystem[];
  /** True once the VM or its files went away: every read fails, it can only be closed. */
  isLost(): boolean;
  /** @throws MOUNT_BUSY while a program uses a file in it, unless forced; repeating it is fine */
  close(options?: UndoOptions): Promise<void>;
}

/**
 * Assembles and mounts the disks of a guest in a VM, so that the kernel of this machine never reads a file system
 * of the guest. That nothing could be mounted is an answer, not an error.
 * @throws VM_UNAVAILABLE, VM_FAILED, TOOL_FAILED; everything is cleaned up then
 */
export async function openVm(deps: OpenVmDeps, request: OpenVmRequest): Promise<OpenVm> {
  const undo = new UndoStack();
  try {
    return await setUp(deps, request, undo);
  } catch (error) {
    await undo.unwindAll(deps.logger);
    throw error;
  }
}

async function setUp(deps: OpenVmDeps, request: OpenVmRequest, undo: UndoStack): Promise<OpenVm> {
  const { runFolder, mountPath, disks, passphrases } = request;
  if (disks.length > MAX_VM_DISKS)
    throw new SendenseError('VM_UNAVAILABLE', {
      detail: `the guest has more than ${MAX_VM_DISKS} disks`,
      action: 'sendense-ctl restore disk',
    });
  const image = await requireVmImage(deps.vmFolder);
  const accelerator = await chooseAccelerator(image, deps.kvmFile);
  const place = {
    // short names: the path of a socket has at most 107 bytes
    controlSocket: join(runFolder, 'c.sock'),
    filesSocket: join(runFolder, 'f.sock'),
    serialLog: join(runFolder, 'serial.log'),
  };
  const qemuLog = join(runFolder, 'qemu.log');
  undo.push('remove the sockets of the VM', async () => {
    for (const path of [place.controlSocket, place.filesSocket]) await rm(path, { force: true });
  });
  const memoryMib = passphrases.length > 0 ? UNLOCK_MEMORY_MIB : MEMORY_MIB;
  const qemu = await startDaemon(
    'qemu-system-x86_64',
    qemuArguments({ image, accelerator, memoryMib, disks, ...place }),
    {
      logFile: qemuLog,
      readyWhen: async () => existsSync(place.controlSocket) && existsSync(place.filesSocket),
    },
  );
  undo.push('stop the VM', () => qemu.stop());
  const described = (reason: string, cause?: unknown) => vmFailed(reason, [qemuLog, place.serialLog], cause);
  let control: ControlChannel;
  try {
    control = await ControlChannel.connect(place.controlSocket);
  } catch (error) {
    throw await described('it does not start', error);
  }
  undo.push('let go of the VM', async () => control.close());
  control.begin(passphrases);

  const logFile = join(runFolder, 'sshfs.log');
  const mounting = mountBySshfs({ filesSocket: place.filesSocket, mountPath, logFile });
  // a VM that ends takes sshfs with it: its own end is the better story
  const mounted = mounting.then(
    (daemon) => {
      undo.push('stop sshfs', () => daemon.stop());
      undo.push(`unmount ${mountPath}`, ({ force }) => request.unmount(force));
      return { daemon };
    },
    (error: unknown) => ({ error }),
  );
  const limitMs = (deps.reportTimeoutMs ?? REPORT_TIMEOUT_MS) + passphrases.length * UNLOCK_TIMEOUT_MS;
  const trouble = await waitUntilReady(control, limitMs);
  if (trouble !== null) {
    // nothing must still be set up while it is taken down
    await qemu.stop();
    await mounted;
    throw await described(messageOf(trouble), trouble);
  }
  const files = await mounted;
  if ('error' in files) throw await described('its files cannot be shown', files.error);
  const filesystems = await Promise.all(control.found.map((found) => describe(found, mountPath)));
  return watch(deps, { qemu, sshfs: files.daemon, control, undo, filesystems });
}

/** Null, or why the VM will never be ready. The time runs anew with each thing that it finds. */
async function waitUntilReady(control: ControlChannel, limitMs: number): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Error>((resolve) => {
    timer = setInterval(() => {
      if (control.sinceFoundMs > limitMs) resolve(new Error(`it did not report within ${limitMs / 1000} s`));
    }, WATCH_INTERVAL_MS);
  });
  const outcome = control.ready.then(
    () => null,
    (error: unknown) => error,
  );
  try {
    return await Promise.race([outcome, timeout]);
  } finally {
    clearInterval(timer);
  }
}

async function describe(found: FoundFilesystem, mountPath: string): Promise<VmFilesystem> {
  const path = found.status === 'mounted' ? join(mountPath, found.key) : null;
  return {
    key: found.key,
    diskIndex: found.disks[0] ?? 0,
    diskIndexes: found.disks,
    partitionNumber: found.partition,
    offsetBytes: found.offset,
    sizeBytes: found.size,
    fsType: found.fs_type,
    label: decodeBlkid(found.label),
    uuid: decodeBlkid(found.uuid),
    mountPath: path,
    deviceNumber: path === null ? null : (await stat(path)).dev,
    status: found.status,
    reader: path === null ? null : 'vm',
    degraded: found.degraded,
    detail: found.detail,
  };
}

interface RunningVm {
  readonly qemu: RunningDaemon;
  readonly sshfs: RunningDaemon;
  readonly control: ControlChannel;
  readonly undo: UndoStack;
  readonly filesystems: readonly VmFilesystem[];
}

/** Notices when the VM goes away or falls silent, and ends what is left of it: nobody must wait for it in vain. */
function watch(deps: OpenVmDeps, vm: RunningVm): OpenVm {
  const { qemu, sshfs, control, undo } = vm;
  const { silenceLimitMs = SILENCE_LIMIT_MS } = deps;
  const state = { isLost: false, isClosing: false };
  const lose = (what: string) => {
    if (state.isClosing || state.isLost) return;
    state.isLost = true;
    deps.logger.error({ pid: qemu.pid, what }, 'the VM of a mount went away');
    void qemu.stop();
  };
  const timer = setInterval(() => {
    if (control.silenceMs > silenceLimitMs) lose('it fell silent');
  }, WATCH_INTERVAL_MS);
  timer.unref();
  void qemu.exited.then((outcome) => lose(`qemu ended with ${outcome}`));
  void sshfs.exited.then((outcome) => lose(`sshfs ended with ${outcome}`));
  let closing: Promise<void> | null = null;
  const close = (options: UndoOptions = { force: false }): Promise<void> => {
    closing ??= takeDown(options).finally(() => {
      closing = null;
    });
    return closing;
  };
  const takeDown = async (options: UndoOptions) => {
    state.isClosing = true;
    try {
      // without the VM every pending read fails; a program that waits for one could not be taken down else
      if (options.force || state.isLost) await qemu.stop();
      await undo.unwind(options);
      clearInterval(timer);
    } catch (error) {
      state.isClosing = false;
      throw error;
    }
  };
  return {
    filesystems: vm.filesystems,
    isLost: () => state.isLost,
    close,
    [Symbol.asyncDispose]: () => close({ force: true }),
  };
}

async function vmFailed(reason: string, logs: readonly string[], cause?: unknown): Promise<SendenseError> {
  const texts = await Promise.all(logs.map((log) => readFile(log, 'utf8').catch(() => '')));
  const tail = texts
    .map((text) => text.trim().slice(-LOG_TAIL_CHARACTERS))
    .filter((text) => text !== '')
    .join('\n');
  return new SendenseError('VM_FAILED', { detail: tail === '' ? reason : `${reason}\n${tail}` }, cause);
}
