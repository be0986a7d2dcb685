import { loneLayer } from '../../qemu/block-graph.ts';
import { mapImage } from '../../qemu/qemu-img.ts';

/** End of the last place of a layer that was ever written to, bytes; 0 when there is none. Its export must be closed. */
export async function lastWritten(layer: string, signal: AbortSignal): Promise<number> {
  let end = 0;
  await mapImage(
    loneLayer(layer),
    (extent) => {
      if (extent.present) end = extent.offset + extent.length;
    },
    signal,
  );
  return end;
}
