import type { ImageNode } from '../../qemu/block-graph.ts';
import type { VmImage } from './vm-image.ts';

export type Accelerator = 'kvm' | 'tcg';

export interface VmDisk {
  readonly diskIndex: number;
  /** The throw-away overlay above the chain: the VM may write to it. */
  readonly overlay: ImageNode;
}

export interface VmShape {
  readonly image: VmImage;
  readonly accelerator: Accelerator;
  readonly memoryMib: number;
  /** Unix sockets that QEMU listens at, and the file that takes what the VM's kernel says. */
  readonly controlSocket: string;
  readonly filesSocket: string;
  readonly serialLog: string;
  readonly disks: readonly VmDisk[];
  /** Another program instead of the init of the image. */
  readonly init?: string;
}

/** Slots of the root bus that disks may take, eight functions each: the first ones hold the machine's own devices. */
const FIRST_SLOT = 4;
const FUNCTIONS_PER_SLOT = 8;
export const MAX_VM_DISKS = (30 - FIRST_SLOT) * FUNCTIONS_PER_SLOT;

/** Translated code under emulation; QEMU's own choice of 1 GiB would fill with time. */
const TRANSLATION_CACHE_MIB = 64;

/** The command line of one VM: no network, no display, no defaults, and nothing that it could start or become. */
export function qemuArguments(shape: VmShape): string[] {
  const { image, disks } = shape;
  return [
    ...machineArguments(shape),
    ...['-kernel', image.kernel, '-initrd', image.initrd],
    ...['-append', kernelArguments(disks.length, shape.init)],
    ...['-chardev', `file,id=console,path=${escapeComma(shape.serialLog)},append=on`],
    ...['-serial', 'chardev:console'],
    // what the VM has freed goes back to this machine: unlocking LUKS takes a GiB for some seconds
    ...['-device', 'virtio-balloon-pci,free-page-reporting=on,addr=3'],
    ...['-device', 'virtio-serial-pci,addr=2'],
    ...portArguments('control', shape.controlSocket),
    ...portArguments('files', shape.filesSocket),
    ...disks.flatMap((disk, index) => diskArguments(disk, index)),
  ];
}

/** A VM that only shows whether a kernel runs at all: it switches itself off. */
export function probeArguments(image: VmImage, accelerator: Accelerator): string[] {
  return [
    ...machineArguments({ accelerator, memoryMib: 256 }),
    ...['-kernel', image.kernel, '-initrd', image.initrd],
    ...['-append', `${kernelArguments(0)} sendense.probe`],
  ];
}

function machineArguments(shape: Pick<VmShape, 'accelerator' | 'memoryMib'>): string[] {
  const isKvm = shape.accelerator === 'kvm';
  return [
    ...['-name', 'sendense-mount', '-machine', 'q35,vmport=off', '-m', `${shape.memoryMib}M`, '-smp', '1'],
    ...(isKvm
      ? ['-accel', 'kvm', '-cpu', 'host']
      : ['-accel', `tcg,thread=multi,tb-size=${TRANSLATION_CACHE_MIB}`, '-cpu', 'max']),
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none', '-no-reboot'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ];
}

/** A panic ends the VM at once (`-no-reboot`): then everybody who waits for it knows. */
function kernelArguments(diskCount: number, init?: string): string {
  const quiet = 'console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off';
  return `${quiet} sendense.disks=${diskCount}${init === undefined ? '' : ` rdinit=${init}`}`;
}

function portArguments(name: string, socket: string): string[] {
  return [
    ...['-chardev', `socket,id=${name},path=${escapeComma(socket)},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=${name},name=${name}`],
  ];
}

/** Errors are the guest's: QEMU would stop the whole VM when the bounded overlay is full. */
function diskArguments(disk: VmDisk, index: number): string[] {
  const name = `disk${disk.diskIndex}`;
  const slot = FIRST_SLOT + Math.floor(index / FUNCTIONS_PER_SLOT);
  const address = `addr=0x${slot.toString(16)}.${index % FUNCTIONS_PER_SLOT},multifunction=on`;
  return [
    ...['-blockdev', JSON.stringify({ ...disk.overlay, 'node-name': name })],
    ...['-device', `virtio-blk-pci,drive=${name},serial=${name},${address},werror=report,rerror=report`],
  ];
}

/** QEMU's key=value syntax doubles commas inside values. */
const escapeComma = (text: string) => text.replaceAll(',', ',,');
