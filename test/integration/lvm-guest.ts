import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { type Bench, MIB, tool } from './restore-fixtures.ts';

const EXTENT = MIB;

/** Disks of a guest with one volume group, made by LVM's own tools without a device mapper. */
export class LvmGuest implements Disposable {
  readonly #devices: string[];
  readonly #config: string;
  readonly disks: readonly string[];

  constructor(bench: Bench, name: string, diskCount: number) {
    this.disks = Array.from({ length: diskCount }, (_, index) => bench.path(`${name}-${index}.img`));
    for (const disk of this.disks) tool('truncate', '-s', '96M', disk);
    this.#devices = this.disks.map((disk) => tool('losetup', '-f', '--show', disk).trim());
    const filter = [...this.#devices.map((device) => `"a|^${device}$|"`), '"r|.*|"'].join(',');
    this.#config =
      `devices { filter=[${filter}] use_devicesfile=0 } backup { backup=0 archive=0 } ` +
      'activation { udev_sync=0 udev_rules=0 monitoring=0 }';
    this.lvm('pvcreate', '-q', ...this.#devices);
    this.lvm('vgcreate', '-q', '-s', `${EXTENT}b`, 'vg0', ...this.#devices);
  }

  /** The device of a disk, for commands that place things. */
  device(index: number): string {
    return this.#devices[index] ?? '';
  }

  lvm(...args: string[]): string {
    return tool('lvm', ...args, '--config', this.#config, '--driverloaded', 'n');
  }

  create(name: string, ...args: string[]): void {
    this.lvm('lvcreate', '-q', '-an', '-Zn', '-Wn', '-n', name, 'vg0', ...args);
  }

  /** Writes an image into a volume, piece by piece, where `lvs` says that the piece lies. */
  write(name: string, image: string, stripeBytes: number): void {
    const report = JSON.parse(
      this.lvm(
        ...[
          'lvs',
          '--reportformat',
          'json',
          '--units',
          'b',
          '--nosuffix',
          '-o',
          'seg_start_pe,seg_size_pe,seg_pe_ranges',
        ],
        ...['--segments', `vg0/${name}`],
      ),
    ) as { report: { seg: { seg_start_pe: string; seg_size_pe: string; seg_pe_ranges: string }[] }[] };
    const bytes = readFileSync(image);
    for (const segment of report.report[0]?.seg ?? []) {
      const ranges = segment.seg_pe_ranges.split(' ').map((text) => {
        const [, device = '', first = ''] = /^(.*):(\d+)-\d+$/.exec(text) ?? [];
        return { device, first: Number(first) };
      });
      const start = Number(segment.seg_start_pe) * EXTENT;
      const length = Number(segment.seg_size_pe) * EXTENT;
      const step = ranges.length === 1 ? length : stripeBytes;
      for (let done = 0; done < length; done += step) {
        const number = done / step;
        const range = ranges[number % ranges.length];
        const within = Math.floor(number / ranges.length) * step;
        const at = MIB + (range?.first ?? 0) * EXTENT + within;
        this.#writeAt(range?.device ?? '', at, bytes.subarray(start + done, start + done + step));
      }
    }
  }

  #writeAt(device: string, at: number, bytes: Buffer): void {
    const fd = openSync(device, 'r+');
    try {
      writeSync(fd, bytes, 0, bytes.length, at);
    } finally {
      closeSync(fd);
    }
  }

  /** Lets go of the loop devices; the disks are whole then. */
  [Symbol.dispose](): void {
    for (const device of this.#devices.splice(0)) {
      tool('blockdev', '--flushbufs', device);
      tool('losetup', '-d', device);
    }
  }
}
