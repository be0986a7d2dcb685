import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { sh } from './guest-disk.ts';

const MIB = 1024 * 1024;

/** A small file system of its own, for a repository that can be full, or be away. */
export class LoopFolder {
  readonly path: string;
  readonly #image: string;

  constructor(path: string, sizeMib: number, ...mkfs: string[]) {
    this.path = path;
    this.#image = `${path}.img`;
    writeFileSync(this.#image, '');
    truncateSync(this.#image, sizeMib * MIB);
    sh('mkfs.ext4', '-q', '-F', ...mkfs, this.#image);
    mkdirSync(path);
  }

  mount(): void {
    sh('mount', '-o', 'loop', this.#image, this.path);
  }

  umount(): void {
    sh('umount', this.path);
  }

  /** As when a cable is pulled: it goes from the tree at once, whoever has files open. */
  vanish(): void {
    sh('umount', '-l', this.path);
  }

  /** At the end, however the test left it. */
  dispose(): void {
    try {
      this.vanish();
    } catch {
      // it was not mounted
    }
  }
}
