import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { SendenseError } from '../../base/sendense-error.ts';
import type { KeyRing } from '../crypto/key-ring.ts';
import { layout } from '../layout.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { Codec, PackedBlock } from './packed-block.ts';

/** The last bytes of every pack: length of the footer (32 bits), then this. */
const MAGIC = Buffer.from('SDPACK01');
const TRAILER_BYTES = 4 + MAGIC.length;
/** Most footers come with the first read. */
const GUESS_BYTES = 64 * 1024;
const MAX_FOOTER_BYTES = 16 * 1024 * 1024;

const purpose = 'footer';

/** The list of its frames, so that a pack can be used without any other object. */
export function encodeFooter(keys: KeyRing, packId: string, blocks: readonly PackedBlock[]): Buffer {
  const rows = blocks.map(({ b3, rawBytes, at, len, codec }) => [b3, rawBytes, at, len, codec]);
  const packed = zstdCompressSync(Buffer.from(JSON.stringify(rows)));
  const body = keys.isEncrypted ? keys.sealFrame(packId, packed, purpose) : packed;
  const trailer = Buffer.alloc(TRAILER_BYTES);
  trailer.writeUInt32BE(body.length);
  MAGIC.copy(trailer, 4);
  return Buffer.concat([body, trailer]);
}

/** @throws MIRROR_OBJECT_MISSING, MIRROR_OBJECT_DAMAGED */
export async function readFooter(
  store: Pick<ObjectStore, 'get'>,
  keys: KeyRing,
  packId: string,
  sizeBytes: number,
): Promise<PackedBlock[]> {
  const key = layout.pack(packId);
  const damaged = (detail: string) => new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail });
  const tailOf = async (length: number) =>
    (await store.get(key, { offset: Math.max(0, sizeBytes - length), length: Math.min(length, sizeBytes) }))
      .body;
  let tail = await tailOf(GUESS_BYTES);
  if (tail.length < TRAILER_BYTES || !tail.subarray(-MAGIC.length).equals(MAGIC))
    throw damaged('it has no end');
  const length = tail.readUInt32BE(tail.length - TRAILER_BYTES);
  if (length > MAX_FOOTER_BYTES || length + TRAILER_BYTES > sizeBytes)
    throw damaged('its end is not its own');
  if (length + TRAILER_BYTES > tail.length) tail = await tailOf(length + TRAILER_BYTES);
  const body = tail.subarray(tail.length - TRAILER_BYTES - length, tail.length - TRAILER_BYTES);
  const packed = keys.isEncrypted ? keys.openFrame(packId, body, purpose) : body;
  if (packed === null) throw damaged('its list does not open with the key of this mirror');
  try {
    const rows = JSON.parse(zstdDecompressSync(packed).toString()) as [
      string,
      number,
      number,
      number,
      Codec,
    ][];
    return rows.map(([b3, rawBytes, at, len, codec]) => ({ b3, rawBytes, at, len, codec }));
  } catch (error) {
    throw new SendenseError('MIRROR_OBJECT_DAMAGED', { key, detail: 'its list cannot be read' }, error);
  }
}
