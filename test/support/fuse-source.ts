import { type ChildProcess, spawn } from 'node:child_process';
import { statfsSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { sh } from './guest-disk.ts';

const FUSE_MAGIC = 0x65735546;
const SECTOR_BYTES = 512;

export interface SourceFault {
  /** Reads are held to this rate, so that a test can act in the middle of a transfer. */
  readonly bytesPerSecond?: number;
  /** Reading the sector at this byte fails with EIO. */
  readonly badByte?: number;
}

/** An image shown as a file whose reads are slow, fail, or stop altogether. */
export class FuseSource {
  readonly path: string;
  readonly #image: string;
  readonly #fault: SourceFault;
  #process: ChildProcess | null = null;

  constructor(image: string, path: string, fault: SourceFault) {
    this.#image = image;
    this.path = path;
    this.#fault = fault;
  }

  async start(): Promise<void> {
    const { bytesPerSecond, badByte } = this.#fault;
    const top =
      badByte === undefined
        ? { driver: 'throttle', 'throttle-group': 'rate', file: 'image' }
        : {
            driver: 'blkdebug',
            image: 'image',
            'inject-error': [{ event: 'none', iotype: 'read', errno: 5, sector: badByte / SECTOR_BYTES }],
          };
    writeFileSync(this.path, '');
    const args = [
      [
        '--object',
        JSON.stringify({
          'qom-type': 'throttle-group',
          id: 'rate',
          limits: { 'bps-read': bytesPerSecond ?? 0 },
        }),
      ],
      [
        '--blockdev',
        JSON.stringify({ driver: 'file', filename: this.#image, 'node-name': 'image', 'read-only': true }),
      ],
      ['--blockdev', JSON.stringify({ ...top, 'node-name': 'top', 'read-only': true })],
      ['--export', `type=fuse,id=out,node-name=top,mountpoint=${this.path},writable=off`],
    ].flat();
    const child = spawn('qemu-storage-daemon', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    this.#process = child;
    for (let round = 0; round < 400; round += 1) {
      if (statfsSync(this.path).type === FUSE_MAGIC && statSync(this.path).size > 0) return;
      if (child.exitCode !== null) break;
      await sleep(25);
    }
    throw new Error(`${this.path} does not show its image`);
  }

  /** Reads wait from now on. */
  pause(): void {
    this.#process?.kill('SIGSTOP');
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  /** Takes the source away; whoever has it open gets errors. */
  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (!child) return;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }
    // a killed daemon leaves the dead mount behind
    try {
      sh('umount', '-l', this.path);
    } catch {
      // it was not mounted
    }
  }
}
