import { createReadStream } from 'node:fs';

/** Of each piece of a row file; gRPC's own framing costs little at this size. */
const CHUNK_BYTES = 256 * 1024;

/** Row files one after the other, as they are on disk. */
export async function* readRowFiles(
  paths: readonly string[],
): AsyncGenerator<{ file: number; bytes: Buffer }> {
  for (const [file, path] of paths.entries())
    for await (const bytes of createReadStream(path, { highWaterMark: CHUNK_BYTES }))
      yield { file, bytes: bytes as Buffer };
}
