import type { Accelerator } from '../vm/qemu-arguments.ts';

export type Firmware = 'bios' | 'uefi';
export type DiskBus = 'virtio' | 'sata' | 'ide';
/** What can show that a machine is up: a line on its serial console, its guest agent, or a picture that stays. */
export type BootCondition = 'serial' | 'agent' | 'screen';

/** The machine that a restore point is booted in. */
export interface BootShape {
  readonly memoryMib: number;
  readonly cpus: number;
  readonly firmware: Firmware;
  readonly diskBus: DiskBus;
}

/** What is waited for: all of it; nothing asked for means whatever shows up first. */
export interface BootExpectation {
  /** Source of a regular expression that a line of the serial console must match. */
  readonly serial: string | null;
  readonly agent: boolean;
  /** The picture is not blank and stays the same for so many seconds. */
  readonly screenStableS: number | null;
  readonly timeoutMs: number;
}

export interface Screenshot {
  readonly file: string;
  readonly afterMs: number;
}

/** How a boot ended, and what there is to see of it. Times count from the start of the machine. */
export interface BootOutcome {
  readonly outcome: 'passed' | 'failed';
  /** One sentence for the person who asks. */
  readonly reason: string;
  readonly met: readonly { readonly condition: BootCondition; readonly afterMs: number }[];
  readonly tookMs: number;
  readonly accelerator: Accelerator;
  readonly screens: readonly Screenshot[];
  /** What the guest said beyond what is kept of it. */
  readonly serialBytesDropped: number;
  readonly restarts: number;
}
