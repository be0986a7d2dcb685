import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MIB = 1024 * 1024;
export const sh = (tool: string, ...args: string[]): string =>
  execFileSync(tool, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });

/** Bytes that depend on the seed alone (SHA-256 in counter mode): the same on every machine. */
export function bytesOf(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  const out = Buffer.alloc(length);
  for (let offset = 0, counter = 0; offset < length; counter += 1) {
    // one digest fills 4 KiB: random enough not to compress across files, and fast
    const block = createHash('sha256').update(key).update(String(counter)).digest();
    for (let part = 0; part < 128 && offset < length; part += 1, offset += 32)
      block.copy(out, offset, 0, Math.min(32, length - offset));
  }
  return out;
}

export interface Slice {
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

/** An empty GPT disk with an ext4 and an xfs partition, made without any partition scanning. */
export function makeGptDisk(path: string): { ext4: Slice; xfs: Slice } {
  const ext4 = { offsetBytes: 1 * MIB, sizeBytes: 256 * MIB };
  const xfs = { offsetBytes: 257 * MIB, sizeBytes: 320 * MIB };
  writeFileSync(path, '');
  truncateSync(path, 580 * MIB);
  const table = `label: gpt\nstart=${ext4.offsetBytes / 512}, size=${ext4.sizeBytes / 512}, type=linux\nstart=${xfs.offsetBytes / 512}, size=${xfs.sizeBytes / 512}, type=linux\n`;
  execFileSync('sfdisk', ['-q', '--no-reread', '--no-tell-kernel', path], {
    input: table,
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  });
  withLoop(path, ext4, (device) => sh('mkfs.ext4', '-q', '-F', device));
  withLoop(path, xfs, (device) => sh('mkfs.xfs', '-q', '-f', device));
  return { ext4, xfs };
}

/** A disk that is one ext4 file system, without partitions. */
export function makePlainDisk(path: string, sizeMib: number): Slice {
  writeFileSync(path, '');
  truncateSync(path, sizeMib * MIB);
  sh('mkfs.ext4', '-q', '-F', path);
  return { offsetBytes: 0, sizeBytes: sizeMib * MIB };
}

function withLoop<T>(path: string, slice: Slice, work: (device: string) => T): T {
  const device = sh(
    'losetup',
    '-f',
    '--show',
    '-o',
    String(slice.offsetBytes),
    '--sizelimit',
    String(slice.sizeBytes),
    path,
  ).trim();
  try {
    return work(device);
  } finally {
    sh('losetup', '-d', device);
  }
}

/** Mounts a file system of a disk writable, runs `work` in it and unmounts it cleanly. */
export function insideDisk<T>(path: string, slice: Slice, work: (root: string) => T): T {
  return withLoop(path, slice, (device) => {
    const root = mkdtempSync(join(tmpdir(), 'sendense-guest-'));
    try {
      sh('mount', device, root);
      try {
        return work(root);
      } finally {
        sh('umount', root);
      }
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
}

/** Fills a folder with `count` files of 0 to about `2 × meanBytes` each. */
export function fillFolder(folder: string, seed: string, count: number, meanBytes: number): void {
  mkdirSync(folder, { recursive: true });
  for (let index = 0; index < count; index += 1) {
    const size = Math.floor((index / Math.max(1, count - 1)) * 2 * meanBytes);
    writeFileSync(join(folder, `file-${index}.dat`), bytesOf(`${seed}/${index}`, size));
  }
}

export const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');
