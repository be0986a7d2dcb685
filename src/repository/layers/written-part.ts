import { loneLayer } from '../../qemu/block-graph.ts';
import { mapImage } from '../../qemu/qemu-img.ts';

/** What was ever written to a layer, bytes: how much, rounded up to clusters, and up to where. Its export must be closed. */
export async function writtenPart(
  layer: string,
  signal: AbortSignal,
): Promise<{ readonly bytes: number; readonly end: number }> {
  let bytes = 0;
  let end = 0;
  await mapImage(
    loneLayer(layer),
    (extent) => {
      if (!extent.present) return;
      bytes += extent.length;
      end = extent.offset + extent.length;
    },
    signal,
  );
  return { bytes, end };
}
