import { SendenseError } from '../../base/sendense-error.ts';
import type { ImageNode } from '../../qemu/block-graph.ts';
import type { Accelerator } from '../vm/qemu-arguments.ts';
import type { BootShape, DiskBus } from './boot-request.ts';

/** The name that every guest agent looks for. */
export const AGENT_PORT = 'org.qemu.guest_agent.0';

/** Most disks that a bus of these machines takes. */
const maxDisks: Readonly<Record<DiskBus, number>> = { virtio: 24, sata: 6, ide: 4 };

/** The debug console that SeaBIOS writes its own log to. */
const SEABIOS_PORT = '0x402';

export interface BootMachine extends BootShape {
  readonly accelerator: Accelerator;
  /** Unix sockets that QEMU listens at. */
  readonly monitorSocket: string;
  readonly serialSocket: string;
  readonly agentSocket: string;
  /** Takes what SeaBIOS says. */
  readonly firmwareLog: string;
  /** For UEFI: the code, and a throw-away copy of the variables. */
  readonly uefi: { readonly code: string; readonly variables: string } | null;
  /** Throw-away overlays, in the order of the machine's disks. */
  readonly disks: readonly ImageNode[];
}

/**
 * The command line of one boot. The machine waits for `cont`, has no network and can start no program. When it
 * switches itself off QEMU stays, so that its last picture can be taken; a restart is a restart.
 * @throws BOOT_TEST_IMPOSSIBLE for more disks than the bus takes
 */
export function bootArguments(machine: BootMachine): string[] {
  const { accelerator, diskBus, disks, uefi } = machine;
  if (disks.length > maxDisks[diskBus])
    throw new SendenseError('BOOT_TEST_IMPOSSIBLE', {
      detail: `a machine has at most ${maxDisks[diskBus]} disks on ${diskBus}, this one has ${disks.length}`,
      action: 'sendense-ctl restore test --disk-bus virtio …',
    });
  // the only board with a parallel ATA controller
  const board = diskBus === 'ide' ? 'pc,vmport=off' : 'q35,vmport=off';
  return [
    ...['-name', 'sendense-boot-test', '-machine', board, '-m', `${machine.memoryMib}M`],
    ...['-smp', String(machine.cpus)],
    ...(accelerator === 'kvm'
      ? ['-accel', 'kvm', '-cpu', 'host']
      : ['-accel', 'tcg,thread=multi', '-cpu', 'max']),
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-nic', 'none'],
    ...['-S', '-action', 'reboot=reset,shutdown=pause,panic=pause,watchdog=pause'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-device', 'VGA', '-device', 'pvpanic'],
    // as guests of any age have it; the clock of the backup is unknown, so it is now
    ...['-rtc', 'base=utc', '-device', 'virtio-rng-pci'],
    ...socketArguments('monitor', machine.monitorSocket),
    ...['-mon', 'chardev=monitor,mode=control'],
    ...socketArguments('console', machine.serialSocket),
    ...['-serial', 'chardev:console'],
    ...socketArguments('agent', machine.agentSocket),
    ...['-device', 'virtio-serial-pci'],
    ...['-device', `virtserialport,chardev=agent,name=${AGENT_PORT},id=agent`],
    ...(uefi === null
      ? [
          ...['-chardev', `file,id=firmware,path=${escapeComma(machine.firmwareLog)}`],
          ...['-device', `isa-debugcon,iobase=${SEABIOS_PORT},chardev=firmware`],
        ]
      : [
          ...['-drive', `if=pflash,format=raw,unit=0,readonly=on,file=${escapeComma(uefi.code)}`],
          ...['-drive', `if=pflash,format=raw,unit=1,file=${escapeComma(uefi.variables)}`],
        ]),
    ...disks.flatMap((overlay, index) => diskArguments(diskBus, overlay, index)),
  ];
}

/** Errors are the guest's: QEMU would stop the whole machine when the bounded overlay is full. */
function diskArguments(bus: DiskBus, overlay: ImageNode, index: number): string[] {
  const common = `drive=disk${index},bootindex=${index + 1},werror=report,rerror=report`;
  const device = {
    virtio: `virtio-blk-pci,${common}`,
    sata: `ide-hd,bus=ide.${index},${common}`,
    ide: `ide-hd,bus=ide.${Math.floor(index / 2)},unit=${index % 2},${common}`,
  }[bus];
  return ['-blockdev', JSON.stringify({ ...overlay, 'node-name': `disk${index}` }), '-device', device];
}

const socketArguments = (id: string, path: string): string[] => [
  '-chardev',
  `socket,id=${id},path=${escapeComma(path)},server=on,wait=off`,
];

/** QEMU's key=value syntax doubles commas inside values. */
const escapeComma = (text: string) => text.replaceAll(',', ',,');
