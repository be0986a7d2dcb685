import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { unmount } from '../../src/mountd/privileged/unmount.ts';
import { readOnlyChain } from '../../src/qemu/block-graph.ts';
import { createOverlay } from '../../src/restore/disk/overlay.ts';
import { type OpenVm, type OpenVmDeps, openVm } from '../../src/restore/vm/open-vm.ts';
import type { VmDisk } from '../../src/restore/vm/qemu-arguments.ts';
import { vmFolder } from '../support/vm-image.ts';
import { Bench, MIB, tool } from './restore-fixtures.ts';

/** Opens VMs in a folder of its own; those that a test forgets are closed at the end. */
export class VmBench implements AsyncDisposable {
  readonly bench = new Bench();
  readonly #vms: Promise<OpenVm>[] = [];

  /** A layer as a backup makes it. */
  layer(image: string): string {
    const path = `${image}.qcow2`;
    tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', image, path);
    return path;
  }

  /** The folders that a mount has: `run` for the VM, `mnt` to show its files at. */
  folders(name: string): { runFolder: string; mountPath: string } {
    const runFolder = join(this.bench.runFolder, 'mounts', name);
    const mountPath = join(this.bench.mountFolder, name);
    for (const folder of [runFolder, mountPath]) mkdirSync(folder, { recursive: true });
    return { runFolder, mountPath };
  }

  /** @param images raw images whose layers exist, by disk index */
  async disks(runFolder: string, images: Readonly<Record<number, string>>): Promise<VmDisk[]> {
    return await Promise.all(
      Object.entries(images).map(async ([index, image]) => {
        const path = join(runFolder, `disk${index}.qcow2`);
        const below = readOnlyChain([`${image}.qcow2`]);
        if (!below) throw new Error('a chain of nothing');
        const overlay = await createOverlay(path, below, statSync(image).size, 64 * MIB);
        return { diskIndex: Number(index), overlay };
      }),
    );
  }

  deps(changes: Partial<OpenVmDeps> = {}): OpenVmDeps {
    return { logger: pino({ level: 'fatal' }), vmFolder, kvmFile: this.bench.path('kvm'), ...changes };
  }

  async open(
    name: string,
    images: Readonly<Record<number, string>>,
    passphrases: readonly string[] = [],
    changes: Partial<OpenVmDeps> = {},
  ): Promise<OpenVm> {
    const folders = this.folders(name);
    const disks = await this.disks(folders.runFolder, images);
    const opening = openVm(this.deps(changes), {
      ...folders,
      disks,
      passphrases,
      unmount: (force) => unmount(folders.mountPath, force),
    });
    this.#vms.push(opening);
    return await opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const result of await Promise.allSettled(this.#vms))
      if (result.status === 'fulfilled') await result.value.close({ force: true });
    await this.bench[Symbol.asyncDispose]();
  }
}

/** The bytes of a file of a mount, through the folder tree and another process. */
export const sha256sum = (path: string): string => tool('sha256sum', path).split(' ')[0]?.slice(-64) ?? '';
