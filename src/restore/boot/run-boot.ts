import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../base/logger.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { hasCode, SendenseError } from '../../base/sendense-error.ts';
import { readOnlyChain } from '../../qemu/block-graph.ts';
import { QmpClient } from '../../qemu/qmp-client.ts';
import { readChainSize } from '../disk/chain-size.ts';
import { createOverlay } from '../disk/overlay.ts';
import { UndoStack } from '../mount/undo-stack.ts';
import { chooseAccelerator } from '../vm/accelerator.ts';
import type { Accelerator } from '../vm/qemu-arguments.ts';
import { vmAvailability } from '../vm/vm-image.ts';
import { type BootMachine, bootArguments } from './boot-arguments.ts';
import type { BootExpectation, BootOutcome, BootShape } from './boot-request.ts';
import { BootState } from './boot-state.ts';
import { findUefi } from './find-uefi.ts';
import { GuestAgent } from './guest-agent.ts';
import { ScreenWatch } from './screen-watch.ts';
import { SerialLog } from './serial-log.ts';
import { firmwareGaveUp, hasHandedOver } from './telling-lines.ts';

const LOOK_MS = 250;
/** Between two looks at the picture, which take some time themselves. */
const PICTURE_MS = 2_000;
/** A QEMU that ends takes its sockets along a moment before its end is known. */
const END_GRACE_MS = 500;

export interface BootPlace {
  readonly logger: Logger;
  /** An existing folder for sockets, of this boot alone. */
  readonly runFolder: string;
  /** An existing folder for what the guest writes, on a disk; of this boot alone. */
  readonly overlayFolder: string;
  /** An existing folder that gets `serial.log`, `firmware.log` and `screen-N.png`. */
  readonly evidenceFolder: string;
  /** Most bytes that the guest may write, over all its disks. */
  readonly overlayLimitBytes: number;
  /** Where `scripts/build-vm` put the kernel that shows whether KVM works. */
  readonly vmFolder: string;
  readonly kvmFile: string;
}

export interface BootRequest extends BootShape, BootExpectation {
  readonly disks: readonly { readonly diskIndex: number; readonly chain: readonly string[] }[];
  readonly signal: AbortSignal;
  /** Called when the machine has started, with what executes it. */
  readonly onStarted?: (accelerator: Accelerator) => void;
}

/**
 * Boots the disks of a restore point and watches what comes of it. The layers are only read; what the guest writes
 * goes to overlays that are removed. Nothing of it is left afterwards but the evidence.
 * @throws BOOT_TEST_IMPOSSIBLE, BOOT_TEST_BROKEN, REQUEST_INVALID, CANCELLED, LAYER_REFUSED, CHAIN_PARENT_MISSING, TOOL_…
 */
export async function runBoot(place: BootPlace, request: BootRequest): Promise<BootOutcome> {
  const undo = new UndoStack();
  try {
    return await boot(place, request, undo);
  } finally {
    await undo.unwindAll(place.logger);
  }
}

async function boot(place: BootPlace, request: BootRequest, undo: UndoStack): Promise<BootOutcome> {
  const { runFolder, evidenceFolder } = place;
  const state = new BootState(request);
  const availability = await vmAvailability(place.vmFolder);
  // without that kernel nobody knows whether KVM works; emulation always does
  const accelerator = availability.isAvailable
    ? await chooseAccelerator(availability.image, place.kvmFile)
    : 'tcg';
  const machine: BootMachine = {
    ...request,
    accelerator,
    monitorSocket: join(runFolder, 'm.sock'),
    serialSocket: join(runFolder, 's.sock'),
    agentSocket: join(runFolder, 'a.sock'),
    firmwareLog: join(evidenceFolder, 'firmware.log'),
    uefi: request.firmware === 'uefi' ? await uefiOf(place) : null,
    disks: await overlays(place, request),
  };
  const sockets = [machine.monitorSocket, machine.serialSocket, machine.agentSocket];
  const qemu = await startDaemon('qemu-system-x86_64', bootArguments(machine), {
    logFile: join(runFolder, 'qemu.log'),
    readyWhen: async () => sockets.every((path) => existsSync(path)),
  });
  undo.push('stop the machine', () => qemu.stop());
  try {
    return await follow(place, request, undo, { qemu, machine, state, accelerator });
  } catch (error) {
    // what goes wrong because QEMU ended is told as that
    const isOver = await Promise.race([qemu.exited.then(() => true), sleep(END_GRACE_MS, false)]);
    if (!isOver || request.signal.aborted || hasCode(error, 'BOOT_TEST_BROKEN')) throw error;
    throw await brokenBy(machine, await qemu.exited, error);
  }
}

interface Booting {
  readonly qemu: RunningDaemon;
  readonly machine: BootMachine;
  readonly state: BootState;
  readonly accelerator: Accelerator;
}

async function follow(
  place: BootPlace,
  request: BootRequest,
  undo: UndoStack,
  { qemu, machine, state, accelerator }: Booting,
): Promise<BootOutcome> {
  const { evidenceFolder } = place;
  const qmp = await QmpClient.connect(machine.monitorSocket);
  undo.push('let go of the machine', () => qmp[Symbol.asyncDispose]());
  const serial = new SerialLog((line) => state.sawLine(line));
  const console = connect({ path: machine.serialSocket });
  await once(console, 'connect');
  console.on('data', (bytes: Buffer) => serial.add(bytes));
  console.on('error', () => undefined); // its end comes with the machine's
  undo.push('let go of the console', async () => void console.destroy());
  const agent = await GuestAgent.connect(machine.agentSocket, () => state.meet('agent'));
  undo.push('let go of the agent', async () => agent[Symbol.dispose]());
  qmp.onEvent((event, data) => {
    if (event === 'VSERPORT_CHANGE' && data['open'] === true) agent.begin();
    state.sawEvent(event, data);
  });
  const screen = new ScreenWatch(qmp, evidenceFolder, place.overlayFolder);
  state.start(Date.now());
  await qmp.execute('cont');
  request.onStarted?.(accelerator);
  try {
    await watch({ qemu, serial, screen, state, machine, signal: request.signal });
    await screen.finish(state.elapsedMs()).catch(() => undefined);
  } finally {
    await writeFile(join(evidenceFolder, 'serial.log'), serial.content());
  }
  return {
    ...state.verdict(),
    accelerator,
    screens: screen.screens,
    serialBytesDropped: serial.droppedBytes,
  };
}

interface Watched {
  readonly qemu: RunningDaemon;
  readonly serial: SerialLog;
  readonly screen: ScreenWatch;
  readonly state: BootState;
  readonly machine: BootMachine;
  readonly signal: AbortSignal;
}

/** Until the state is decided. @throws CANCELLED, BOOT_TEST_BROKEN when QEMU itself ended */
async function watch({ qemu, serial, screen, state, machine, signal }: Watched): Promise<void> {
  let end: string | null = null;
  void qemu.exited.then((outcome) => {
    end = outcome;
  });
  let nextPictureMs = 0;
  while (!state.isDecided) {
    if (signal.aborted) throw new SendenseError('CANCELLED');
    serial.lookAtUnfinished();
    if (end !== null) throw await brokenBy(machine, end);
    const said = machine.uefi === null ? await readFile(machine.firmwareLog, 'latin1').catch(() => '') : '';
    if ((state.isHandedOver || hasHandedOver(said)) && screen.handOver()) nextPictureMs = 0;
    if (firmwareGaveUp(said)) state.fail('the firmware found nothing to boot on its disks');
    if (state.elapsedMs() >= nextPictureMs) {
      // a machine that ends at this instant is noticed in the next round
      await screen.look(state.elapsedMs()).catch(() => undefined);
      nextPictureMs = state.elapsedMs() + PICTURE_MS;
      state.sawPicture(screen.stableMs(state.elapsedMs()));
    }
    state.checkTime();
    if (!state.isDecided) await sleep(LOOK_MS);
  }
}

async function brokenBy(machine: BootMachine, end: string, cause?: unknown): Promise<SendenseError> {
  const log = await readFile(join(machine.monitorSocket, '../qemu.log'), 'utf8').catch(() => '');
  const detail = `QEMU ended with ${end} ${log.trim().slice(-500)}`;
  return new SendenseError('BOOT_TEST_BROKEN', { detail }, cause);
}

async function overlays(place: BootPlace, request: BootRequest): Promise<BootMachine['disks']> {
  const limitBytes = place.overlayLimitBytes / Math.max(1, request.disks.length);
  return await Promise.all(
    request.disks.map(async ({ diskIndex, chain }) => {
      const sizeBytes = await readChainSize(chain);
      const below = readOnlyChain(chain);
      if (below === null) throw new SendenseError('INTERNAL', { detail: 'a chain without layers' });
      return await createOverlay(
        join(place.overlayFolder, `disk${diskIndex}.qcow2`),
        below,
        sizeBytes,
        limitBytes,
      );
    }),
  );
}

async function uefiOf({ overlayFolder }: BootPlace): Promise<BootMachine['uefi']> {
  const found = await findUefi();
  const variables = join(overlayFolder, 'uefi-variables.fd');
  await copyFile(found.variables, variables);
  return { code: found.code, variables };
}

/** Folders of one boot, removed when it is over. */
export async function withBootFolders<T>(folders: readonly string[], work: () => Promise<T>): Promise<T> {
  try {
    for (const folder of folders) await mkdir(folder, { recursive: true, mode: 0o700 });
    return await work();
  } finally {
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  }
}
