import { zstdDecompressSync } from 'node:zlib';
import { blake3 } from '@napi-rs/blake-hash';
import { giveBack } from '../../base/give-back.ts';
import { SendenseError } from '../../base/sendense-error.ts';
import { BLOCK_BYTES } from '../../nbd/mover/rows/rows.ts';
import type { KeyRing } from '../crypto/key-ring.ts';
import { layout } from '../layout.ts';
import { framePurpose, type PackedBlock } from './packed-block.ts';

const SPARE_BYTES = 64;

/**
 * The content of one frame, proven to be the block it is said to be.
 * @param sealed the bytes of the frame
 * @throws MIRROR_OBJECT_DAMAGED
 */
export function openBlock(keys: KeyRing, packId: string, block: PackedBlock, sealed: Buffer): Buffer {
  const { b3, rawBytes, codec, at } = block;
  const damaged = (detail: string) =>
    new SendenseError('MIRROR_OBJECT_DAMAGED', {
      key: layout.pack(packId),
      detail: `${detail} at byte ${at}`,
    });
  const purpose = framePurpose(keys.blockId(b3, rawBytes), codec, rawBytes);
  const squeezed = keys.isEncrypted ? keys.openFrame(packId, sealed, purpose) : sealed;
  if (squeezed === null) throw damaged('a block does not open with the key of this mirror');
  const content = codec === 'raw' ? squeezed : unpack(squeezed, rawBytes);
  if (keys.isEncrypted && content !== squeezed) giveBack(squeezed);
  if (content?.length !== rawBytes) throw damaged('a block cannot be unpacked');
  if (!isBlock(content, b3)) throw damaged('a block has another content than its digest says');
  return content;
}

export const isBlock = (content: Buffer, b3: string): boolean => blake3(content).toString('hex') === b3;

function unpack(packed: Buffer, rawBytes: number): Buffer | null {
  try {
    // in one piece, with room left, so that no second one is begun
    const chunkSize = Math.min(rawBytes, BLOCK_BYTES) + SPARE_BYTES;
    return zstdDecompressSync(packed, { maxOutputLength: rawBytes, chunkSize });
  } catch {
    return null;
  }
}
