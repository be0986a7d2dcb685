import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';

/** Something inside a guest, held by a descriptor: it stays what it is whatever happens to its name. */
export class GuestNode implements AsyncDisposable {
  readonly stat: BigIntStats;
  /** The last name on the way to it, after symlinks; null at the root. */
  readonly name: Buffer | null;
  /** Of a symlink that was not followed: what it says. */
  target: Buffer | null = null;
  readonly #handle: FileHandle;

  constructor(handle: FileHandle, stat: BigIntStats, name: Buffer | null) {
    this.#handle = handle;
    this.stat = stat;
    this.name = name;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  /** A path that leads to this very object and nowhere else, as long as it is not closed. */
  get procPath(): string {
    return `/proc/self/fd/${this.#handle.fd}`;
  }

  child(name: Buffer): Buffer {
    return Buffer.concat([Buffer.from(`${this.procPath}/`), name]);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
