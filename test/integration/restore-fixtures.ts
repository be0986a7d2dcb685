import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { localWork } from '../../src/mountd/privileged/local-work.ts';
import type { MountRequest, OpenMount, OpenMountDeps } from '../../src/restore/mount/mount-request.ts';
import { openMount } from '../../src/restore/mount/open-mount.ts';

/** In memory where there is room: the many fsyncs of a dirty journal must not take until the kernel cleans it by itself. */
const scratchFolder = (): string => {
  const memory = statfsSync('/dev/shm');
  return memory.bavail * memory.bsize > 4 * 1024 ** 3 ? '/dev/shm' : tmpdir();
};

export const MIB = 1024 * 1024;

/** Runs a tool as an oracle, past the code under test. */
export function tool(name: string, ...args: string[]): string {
  return execFileSync(name, args, {
    encoding: 'utf8',
    maxBuffer: 256 * MIB,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** A folder of its own and the certainty that nothing in it survives the test. */
export class Bench implements AsyncDisposable {
  readonly #mounts: OpenMount[] = [];
  readonly folder = realpathSync(mkdtempSync(join(scratchFolder(), 'sr-')));
  readonly runFolder = this.path('run');
  readonly mountFolder = this.path('mnt');

  constructor() {
    mkdirSync(this.runFolder);
    mkdirSync(this.mountFolder);
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  deps(changes: Partial<OpenMountDeps> = {}): OpenMountDeps {
    const { runFolder, mountFolder } = this;
    return {
      logger: pino({ level: 'fatal' }),
      runFolder,
      mountFolder,
      work: localWork({
        baseFolder: mountFolder,
        imageFolder: join(runFolder, 'mounts'),
        uid: 0,
        gid: 0,
        exposeFolders: null,
      }),
      volumesFile: join(process.cwd(), 'dist/main/sendense-volumes.js'),
      vmFolder: join(process.cwd(), 'build/vm'),
      kvmFile: this.path('kvm.json'),
      hasPrivileges: true,
      mode: 'loop',
      overlayLimitBytes: 256 * MIB,
      ...changes,
    };
  }

  /** What is opened here is closed at the end also when the test forgot or failed. */
  async open(request: MountRequest, changes: Partial<OpenMountDeps> = {}): Promise<OpenMount> {
    const mount = await openMount(this.deps(changes), request);
    this.#mounts.push(mount);
    return mount;
  }

  /** Mounts, loop devices, processes, and entries below the run and mount folders that still exist. */
  leftovers(): string[] {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(this.folder));
    const loops = tool('losetup', '-l', '-n', '-O', 'NAME,BACK-FILE')
      .split('\n')
      .filter((line) => line.includes(this.folder));
    const files = [join(this.runFolder, 'mounts'), this.mountFolder].flatMap((folder) => {
      try {
        return readdirSync(folder);
      } catch {
        return [];
      }
    });
    return [...mounts, ...loops, ...this.pids().map((pid) => `process ${pid}`), ...files];
  }

  pids(): number[] {
    return readdirSync('/proc')
      .map(Number)
      .filter((pid) => {
        if (!pid || pid === process.pid) return false;
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(this.folder);
        } catch {
          return false;
        }
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const mount of this.#mounts) await mount.close({ force: true });
    const points = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '');
    for (const point of points.filter((path) => path.startsWith(this.folder)).reverse())
      tool('umount', '-l', point);
    for (const line of tool('losetup', '-l', '-n', '-O', 'NAME,BACK-FILE').split('\n')) {
      if (line.includes(this.folder)) tool('losetup', '-d', line.split(' ')[0] ?? '');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A raw image of one ext4 or xfs file system. */
  filesystem(
    name: string,
    type: 'ext4' | 'xfs',
    populate: (folder: string) => void,
    sizeMib = type === 'xfs' ? 320 : 64,
  ): string {
    const image = this.path(name);
    tool('truncate', '-s', `${sizeMib}M`, image);
    if (type === 'ext4') tool('mkfs.ext4', '-q', '-F', '-L', 'root', image);
    else tool('mkfs.xfs', '-q', '-f', '-L', 'data', image);
    this.change(image, type, 0, sizeMib * MIB, populate);
    return image;
  }

  /** Mounts a part of an image the ordinary way, with the kernel's own tools, to change it. */
  change(
    image: string,
    type: string,
    offset: number,
    size: number,
    populate: (folder: string) => void,
  ): void {
    const folder = mkdtempSync(this.path('work-'));
    const extra = type === 'xfs' ? ',nouuid' : '';
    tool('mount', '-t', type, '-o', `loop,offset=${offset},sizelimit=${size}${extra}`, image, folder);
    try {
      populate(folder);
    } finally {
      tool('umount', folder);
    }
  }

  /** A layer as a backup makes it; returns its path. */
  full(image: string, name = 'full.qcow2'): string {
    tool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', image, this.path(name));
    return this.path(name);
  }

  /** A layer that holds only what `image` has different from `parent`. */
  incremental(image: string, parent: string, name: string): string {
    const layer = this.full(image, name);
    tool('qemu-img', 'rebase', '-f', 'qcow2', '-b', parent, '-F', 'qcow2', layer);
    return layer;
  }
}

export function sha256(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

export const openFds = () => readdirSync('/proc/self/fd').length;
