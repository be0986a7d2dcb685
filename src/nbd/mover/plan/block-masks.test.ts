import { expect, it } from 'vitest';
import { allSteps, differenceMask, runsOf, STEP_BYTES, zeroMask } from './block-masks.ts';

it('joins neighbouring steps and keeps a short end', () => {
  expect(runsOf(0b1011, 3 * STEP_BYTES + 512)).toEqual([
    { start: 0, length: 2 * STEP_BYTES },
    { start: 3 * STEP_BYTES, length: 512 },
  ]);
  expect(runsOf(0, STEP_BYTES)).toEqual([]);
  expect(allSteps(1024 * 1024)).toBe(0xffff);
  expect(allSteps(STEP_BYTES + 1)).toBe(0b11);
});

it('finds zero and differing steps', () => {
  const zeros = Buffer.alloc(STEP_BYTES);
  const block = Buffer.alloc(2 * STEP_BYTES + 512);
  block[STEP_BYTES] = 1;
  expect(zeroMask(block, zeros)).toBe(0b101);
  expect(differenceMask(block, Buffer.alloc(block.length))).toBe(0b010);
});
