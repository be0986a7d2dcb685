/** Longer than what Node cuts its short buffers from. */
const OWN_BYTES = 64 * 1024;

/**
 * Frees the memory of a long buffer at once. Left to the collector of garbage, each new megabyte outside of its heap
 * makes it look through the heap sooner: several hundred times for each GiB that goes through.
 * @param bytes the only view of its memory; it is empty afterwards
 */
export function giveBack({ buffer }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > OWN_BYTES) buffer.transfer(0);
}
