import type { ImageNode, RawNode } from '../../qemu/block-graph.ts';
import { copyInto } from '../../qemu/qemu-img.ts';

export interface SegmentRequest {
  readonly source: ImageNode;
  readonly target: ImageNode;
  readonly sizeBytes: number;
  /** What lies before this is written and flushed already. */
  readonly fromBytes: number;
  /** Most bytes between two points from which an interrupted restore goes on. */
  readonly segmentBytes: number;
  /** The target reads as zeros where nothing was written yet. */
  readonly targetIsZero: boolean;
  /** An earlier try may have written part of the first piece. */
  readonly isResumed: boolean;
  /** Makes what was written durable, then remembers how far it is. */
  readonly onSegment: (doneBytes: number) => Promise<void>;
  /** Called with bytes of the whole disk. */
  readonly onProgress: (doneBytes: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Writes a disk piece by piece, each with all the speed of `qemu-img convert`. An interrupted piece is written again
 * as a whole, zeros included: nobody knows how far it was.
 */
export async function writeSegments(request: SegmentRequest): Promise<void> {
  const { sizeBytes, fromBytes, segmentBytes } = request;
  for (let offset = fromBytes; offset < sizeBytes; offset += segmentBytes) {
    const length = Math.min(segmentBytes, sizeBytes - offset);
    const isWhole = length === sizeBytes;
    await copyInto({
      source: isWhole ? request.source : slice(request.source, offset, length),
      target: slice(request.target, offset, length),
      targetIsZero: request.targetIsZero && (offset > fromBytes || !request.isResumed),
      onProgress: (fraction) => request.onProgress(offset + Math.round(fraction * length)),
      signal: request.signal,
    });
    await request.onSegment(offset + length);
    request.onProgress(offset + length);
  }
}

/** A part of a graph's bytes. */
function slice(node: ImageNode, offset: number, size: number): RawNode {
  // a raw node without an offset is taken apart: its file can be cut directly
  const isPlain = node.driver === 'raw' && node.offset === undefined && typeof node.file !== 'string';
  const file = isPlain ? node.file : node.driver === 'qcow2' ? node : null;
  if (file === null) throw new Error('only whole images are cut');
  return { driver: 'raw', 'read-only': node['read-only'], offset, size, file };
}
