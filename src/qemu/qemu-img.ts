import { run } from '../base/process/run.ts';
import { transferHeap } from '../base/process/transfer-heap.ts';
import { asFilename, asOptions, type ImageNode, loneLayer } from './block-graph.ts';

/** Time limit for operations that read or write a whole disk; cancel ends them earlier. */
const WHOLE_DISK_TIMEOUT_MS = 7 * 24 * 3600 * 1000;

/** 64 KiB: the usual granularity of dirty bitmaps, and little waste for scattered writes. */
export const CLUSTER_BYTES = 64 * 1024;

const layerOptions = `compat=1.1,cluster_size=${CLUSTER_BYTES},lazy_refcounts=off`;

/**
 * Creates an empty layer. The backing name is stored as given and not opened.
 * @param sizeBytes virtual size, a multiple of 512
 */
export async function createLayer(
  path: string,
  sizeBytes: number,
  backingName: string | null,
): Promise<void> {
  const backing = backingName === null ? [] : ['-u', '-b', backingName, '-F', 'qcow2'];
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    layerOptions,
    ...backing,
    path,
    String(sizeBytes),
  ]);
}

/** A new image above what an NBD server shows; nothing is read yet. */
export async function createOverNbd(path: string, uri: string, sizeBytes: number): Promise<void> {
  const backing = ['-u', '-b', uri, '-F', 'raw'];
  await run('qemu-img', [
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    layerOptions,
    ...backing,
    path,
    String(sizeBytes),
  ]);
}

export type CheckResult =
  | { readonly clean: true; readonly leaks: boolean }
  | { readonly clean: false; readonly detail: string };

/** `qemu-img check` of one layer without its parents. Leaked clusters waste space but lose nothing. */
export async function checkLayer(path: string, signal?: AbortSignal): Promise<CheckResult> {
  const result = await run('qemu-img', ['check', '-q', asFilename(loneLayer(path))], {
    okExitCodes: [0, 1, 2, 3],
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (result.exitCode === 0) return { clean: true, leaks: false };
  if (result.exitCode === 3) return { clean: true, leaks: true };
  return { clean: false, detail: firstError(result.stderr + result.stdout) };
}

/** One line for people; the rest is of use only to QEMU's developers. */
const firstError = (text: string): string =>
  text
    .split('\n')
    .find((line) => /error/i.test(line))
    ?.trim()
    .slice(0, 200) ?? 'qemu-img check failed';

/** Gives leaked clusters back (after a killed writer); touches no data. */
export async function repairLeaks(path: string): Promise<void> {
  await run('qemu-img', ['check', '-q', '-f', 'qcow2', '-r', 'leaks', path], {
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    okExitCodes: [0, 3],
  });
}

/** Whether two images show a guest the same bytes, read in full by `qemu-img compare`. */
export async function areIdentical(a: ImageNode, b: ImageNode, signal: AbortSignal): Promise<boolean> {
  // two graphs in one process share their files, which only an unlocked opening allows
  const result = await run('qemu-img', ['compare', '-q', '-U', asFilename(a), asFilename(b)], {
    okExitCodes: [0, 1],
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    signal,
  });
  return result.exitCode === 0;
}

/** Writes another backing name into the header; nothing is opened by that name. */
export async function renameBacking(path: string, backingName: string): Promise<void> {
  await run('qemu-img', ['rebase', '-q', '-u', '-f', 'qcow2', '-b', backingName, '-F', 'qcow2', path]);
}

export interface MapExtent {
  readonly offset: number;
  readonly length: number;
  /** Present in the image itself, as data or as explicit zeros. */
  readonly present: boolean;
  /** Reads as zeros. */
  readonly zero: boolean;
}

/** Streams the allocation map of an image, in order and without gaps. */
export async function mapImage(
  image: ImageNode,
  onExtent: (extent: MapExtent) => void,
  signal?: AbortSignal,
): Promise<void> {
  await run('qemu-img', ['map', '--output=json', asFilename(image)], {
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
    onLine: (line) => {
      // one object a line, as `[{ "start": 0, …},` … `{…}]`
      const text = line
        .trim()
        .replace(/^\[/, '')
        .replace(/[\],]+$/, '');
      if (text === '') return;
      const entry = JSON.parse(text) as {
        start: number;
        length: number;
        present?: boolean;
        zero: boolean;
        data: boolean;
      };
      onExtent({
        offset: entry.start,
        length: entry.length,
        present: entry.present ?? entry.data,
        zero: entry.zero,
      });
    },
  });
}

export type OutputFormat = 'raw' | 'qcow2' | 'vmdk' | 'vhdx';

export interface ConvertOptions {
  readonly source: ImageNode;
  readonly target: string;
  readonly format: OutputFormat;
  /** A layer of ours: the options of `createLayer`, compressed if wanted, its backing name if it has one. */
  readonly layer?: { readonly compress: boolean; readonly backingName: string | null };
  /** Bytes per second; absent: as fast as it goes. */
  readonly rateBytes?: number | undefined;
  /** Called with 0…1. */
  readonly onProgress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Copies the guest's bytes of an image into a new file; holes stay holes. */
export async function convertImage(options: ConvertOptions): Promise<void> {
  // writeback: the flush at the end reaches the disk, unlike the default "unsafe"
  const args = ['convert', '-p', '-t', 'writeback', '-W', '-m', '8', '-O', options.format];
  if (options.rateBytes !== undefined) args.push('-r', String(options.rateBytes));
  if (options.layer) {
    const { compress, backingName } = options.layer;
    args.push('-o', `${layerOptions}${compress ? ',compression_type=zstd' : ''}`);
    if (compress) args.push('-c');
    // with a backing file only what the topmost image holds itself is copied: it must stand on the same content
    if (backingName !== null) args.push('-B', backingName, '-F', 'qcow2');
  }
  await run('qemu-img', [...args, asFilename(options.source), options.target], {
    signal: options.signal,
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    splitAtCarriageReturn: true,
    onLine: (line) => readProgress(line, options.onProgress),
  });
}

function readProgress(line: string, onProgress: (fraction: number) => void): void {
  const match = /\(([\d.]+)\/100%\)/.exec(line);
  if (match) onProgress(Number(match[1]) / 100);
}

export interface CopyIntoOptions {
  readonly source: ImageNode;
  /** Something that exists and is as long as the source. */
  readonly target: ImageNode;
  /** It is known to read as zeros: then zeros are skipped. Otherwise they are written, as holes where that is possible. */
  readonly targetIsZero: boolean;
  /** Called with 0…1. */
  readonly onProgress: (fraction: number) => void;
  readonly signal: AbortSignal;
}

/** Copies the bytes of one graph over those of another. What it wrote is not flushed yet. */
export async function copyInto(options: CopyIntoOptions): Promise<void> {
  const zero = options.targetIsZero ? ['--target-is-zero'] : [];
  // four requests at once were the fastest on two cores
  const args = ['convert', '-p', '-n', ...zero, '-t', 'writeback', '-W', '-m', '4', '--target-image-opts'];
  await run('qemu-img', [...args, asFilename(options.source), asOptions(options.target)], {
    signal: options.signal,
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
    splitAtCarriageReturn: true,
    env: transferHeap,
    onLine: (line) => readProgress(line, options.onProgress),
  });
}

/** Bytes that the allocated content of an image needs in a new file; a little more than a sparse raw file. */
export async function measureContent(image: ImageNode): Promise<number> {
  const { stdout } = await run('qemu-img', ['measure', '--output=json', '-O', 'qcow2', asFilename(image)], {
    timeoutMs: WHOLE_DISK_TIMEOUT_MS,
  });
  return (JSON.parse(stdout) as { required: number }).required;
}

/** Size in bytes of what the graph shows. @throws TOOL_FAILED when it cannot be opened */
export async function imageSize(image: ImageNode): Promise<number> {
  const { stdout } = await run('qemu-img', ['info', '--output=json', asFilename(image)], {
    timeoutMs: 30_000,
  });
  return (JSON.parse(stdout) as { 'virtual-size': number })['virtual-size'];
}

/** Makes everything that was written to it durable. */
export async function flushImage(image: ImageNode): Promise<void> {
  await run('qemu-io', ['-t', 'writeback', '-c', 'flush', '--image-opts', asOptions(image)]);
}
