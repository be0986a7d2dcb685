import { realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { ImageNode, RawNode } from '../../qemu/block-graph.ts';
import { imageSize } from '../../qemu/qemu-img.ts';
import { checkOutputPath, type OutputRules } from '../output-path.ts';
import { type BlockDevice, inspectBlockDevice } from './block-device.ts';
import { isNbdUri, parseNbdUri } from './nbd-uri.ts';

/** Where the bytes of a whole disk go. */
export type WholeDiskTarget =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'device'; readonly path: string; readonly device: BlockDevice }
  | { readonly kind: 'nbd'; readonly path: string; readonly sizeBytes: number; readonly node: RawNode };

interface TargetRules extends OutputRules {
  /** The target is there already and is brought to the restore point in place. */
  readonly isInPlace: boolean;
}

/**
 * Finds out what an output is and whether it may be written.
 * @throws OUTPUT_INVALID, OUTPUT_EXISTS, TARGET_FAILED for an NBD server that does not answer
 */
export async function resolveTarget(output: string, rules: TargetRules): Promise<WholeDiskTarget> {
  if (isNbdUri(output)) return await nbdTarget(output, rules.forbidden);
  const device = await inspectBlockDevice(output);
  if (device !== null) {
    // a loop device is as much inside a folder as the file behind it
    if (device.backingFile !== null) await refuseInside(output, device.backingFile, rules.forbidden);
    await refuseInside(output, device.path, rules.forbidden);
    return { kind: 'device', path: device.path, device };
  }
  const path = await checkOutputPath(output, { ...rules, overwrite: rules.overwrite || rules.isInPlace });
  return { kind: 'file', path };
}

async function nbdTarget(uri: string, forbidden: readonly string[]): Promise<WholeDiskTarget> {
  const export_ = parseNbdUri(uri);
  if (export_.server.type === 'unix') await refuseInside(uri, export_.server.path, forbidden);
  const node: RawNode = { driver: 'raw', 'read-only': false, file: export_ };
  try {
    const sizeBytes = await imageSize({ ...node, 'read-only': true });
    return { kind: 'nbd', path: uri, sizeBytes, node };
  } catch (error) {
    const detail = error instanceof SendenseError ? String(error.fields['detail'] ?? error.message) : '';
    throw new SendenseError('TARGET_FAILED', { target: uri, detail: detail.trim() }, error);
  }
}

async function refuseInside(output: string, path: string, forbidden: readonly string[]): Promise<void> {
  const real = await realpath(path).catch(() => path);
  for (const place of forbidden) {
    const folder = await realpath(place).catch(() => place);
    if (real === folder || real.startsWith(folder + sep))
      throw new SendenseError('OUTPUT_INVALID', { path: output, detail: `it would write to ${place}` });
  }
}

/** The target as QEMU opens it for writing; its bytes are the guest's. */
export function targetNode(target: WholeDiskTarget, format: 'raw' | 'qcow2', path = target.path): ImageNode {
  if (target.kind === 'nbd') return target.node;
  const driver = target.kind === 'device' ? 'host_device' : 'file';
  const file = { driver, filename: path, discard: 'unmap' } as const;
  if (format === 'qcow2') return { driver: 'qcow2', 'read-only': false, discard: 'unmap', file };
  return { driver: 'raw', 'read-only': false, file };
}

/** @throws OUTPUT_TOO_SMALL with both sizes */
export function checkTargetSize(target: WholeDiskTarget, actualBytes: number, neededBytes: number): void {
  if (actualBytes < neededBytes)
    throw new SendenseError('OUTPUT_TOO_SMALL', {
      path: target.path,
      size: actualBytes,
      needed: neededBytes,
    });
}
