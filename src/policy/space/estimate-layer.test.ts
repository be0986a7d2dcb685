import { expect, it } from 'vitest';
import { estimateLayer } from './estimate-layer.ts';

const KIB = 1024;

it('takes the largest of the recent layers and a margin', () => {
  const sameType = [100, 1000, 50, ...Array.from({ length: 30 }, () => 5_000_000)];
  expect(estimateLayer({ type: 'incremental', sameType: sameType.slice(0, 3), allocatedBytes: null })).toBe(
    1100,
  );
  expect(
    estimateLayer({ type: 'differential', sameType: [...Array(30).fill(10), 5_000], allocatedBytes: null }),
  ).toBe(11);
});

it('takes what a full can have at most', () => {
  expect(estimateLayer({ type: 'full', sameType: [], allocatedBytes: 1000 })).toBe(256 * KIB + 1000);
  expect(estimateLayer({ type: 'full', sameType: [100], allocatedBytes: 1000 })).toBe(256 * KIB + 110);
  expect(estimateLayer({ type: 'full', sameType: [2000], allocatedBytes: 1000 })).toBe(256 * KIB + 1000);
  expect(estimateLayer({ type: 'full', sameType: [2000], allocatedBytes: null })).toBe(2200);
});

it('says when it cannot tell', () => {
  expect(estimateLayer({ type: 'full', sameType: [], allocatedBytes: null })).toBeNull();
  expect(estimateLayer({ type: 'incremental', sameType: [], allocatedBytes: 5 })).toBeNull();
});
