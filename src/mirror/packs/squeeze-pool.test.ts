import { randomBytes } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { SqueezePool } from './squeeze-pool.ts';

const BLOCK_BYTES = 1024 * 1024;
const text = (length: number) => Buffer.alloc(length, 'what compresses well, ');

it('makes what can be smaller smaller, leaves the rest as it is, and mixes nothing up', async () => {
  await using pool = new SqueezePool(3, 4);
  const contents = [text(BLOCK_BYTES), randomBytes(BLOCK_BYTES), text(512), randomBytes(70_000)];
  for (let round = 0; round < 3; round += 1) {
    const slots = contents.map((content) => {
      const slot = pool.take(content.length);
      content.copy(slot.content);
      return slot;
    });
    const squeezed = await Promise.all(slots.map((slot) => pool.squeeze(slot)));
    expect(squeezed.map(({ codec }) => codec)).toEqual(['zstd', 'raw', 'zstd', 'raw']);
    for (const [index, { codec, bytes }] of squeezed.entries()) {
      const back = codec === 'zstd' ? zstdDecompressSync(bytes) : bytes;
      expect(back.equals(contents[index] ?? Buffer.alloc(0))).toBe(true);
    }
    for (const slot of slots) pool.give(slot);
  }
});

it('leaves everything as it is at level 0', async () => {
  await using pool = new SqueezePool(0, 1);
  const slot = pool.take(1000);
  text(1000).copy(slot.content);
  const { codec, bytes } = await pool.squeeze(slot);
  expect([codec, bytes.equals(text(1000))]).toEqual(['raw', true]);
});

it('has no room for more than its slots, or longer blocks', async () => {
  await using pool = new SqueezePool(1, 1);
  expect(() => pool.take(BLOCK_BYTES + 1)).toThrow(RangeError);
  const slot = pool.take(BLOCK_BYTES);
  expect(() => pool.take(1)).toThrow(RangeError);
  pool.give(slot);
  expect(pool.take(1).content).toHaveLength(1);
});

it('says when a thread fails, instead of waiting for it for ever', async () => {
  // a level that zstd refuses
  await using pool = new SqueezePool('high' as unknown as number, 1);
  await expect(pool.squeeze(pool.take(1000))).rejects.toThrow();
});
