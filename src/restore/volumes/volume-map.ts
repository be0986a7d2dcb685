import type { VolumeSegment } from './volume-group.ts';

/** A run of bytes on one physical volume. */
export interface PhysicalRun {
  readonly pv: string;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Where a range of a logical volume lies. Pure.
 * @param segments in order, without gaps
 */
export function runsOf(
  segments: readonly VolumeSegment[],
  offsetBytes: number,
  lengthBytes: number,
): PhysicalRun[] {
  const runs: PhysicalRun[] = [];
  let at = offsetBytes;
  const end = offsetBytes + lengthBytes;
  let index = indexAt(segments, at);
  for (let segment = segments[index]; at < end && segment; index += 1, segment = segments[index]) {
    const segmentEnd = Math.min(end, segment.startBytes + segment.lengthBytes);
    while (at < segmentEnd) {
      const run = runAt(segment, at, segmentEnd);
      runs.push(run);
      at += run.lengthBytes;
    }
  }
  return runs;
}

function runAt(segment: VolumeSegment, at: number, end: number): PhysicalRun {
  const { startBytes, stripeBytes, parts } = segment;
  const inSegment = at - startBytes;
  const stripe = Math.floor(inSegment / stripeBytes);
  const inStripe = inSegment % stripeBytes;
  const part = parts[stripe % parts.length];
  if (!part) throw new RangeError('a segment without parts');
  return {
    pv: part.pv,
    offsetBytes: part.offsetBytes + Math.floor(stripe / parts.length) * stripeBytes + inStripe,
    lengthBytes: Math.min(stripeBytes - inStripe, end - at),
  };
}

/** Index of the segment that holds a byte. */
function indexAt(segments: readonly VolumeSegment[], at: number): number {
  let [low, high] = [0, segments.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((segments[middle]?.startBytes ?? Number.POSITIVE_INFINITY) <= at) low = middle;
    else high = middle - 1;
  }
  return low;
}
