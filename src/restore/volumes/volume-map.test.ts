import { expect, test } from 'vitest';
import type { VolumeSegment } from './volume-group.ts';
import { runsOf } from './volume-map.ts';

const segments: VolumeSegment[] = [
  { startBytes: 0, lengthBytes: 96, stripeBytes: 96, parts: [{ pv: 'a', offsetBytes: 1000 }] },
  {
    startBytes: 96,
    lengthBytes: 120,
    stripeBytes: 8,
    parts: [
      { pv: 'a', offsetBytes: 5000 },
      { pv: 'b', offsetBytes: 100 },
      { pv: 'c', offsetBytes: 700 },
    ],
  },
  { startBytes: 216, lengthBytes: 40, stripeBytes: 40, parts: [{ pv: 'b', offsetBytes: 0 }] },
];

/** Where one byte lies, the slow way. */
function place(at: number): string {
  if (at < 96) return `a:${1000 + at}`;
  if (at >= 216) return `b:${at - 216}`;
  const stripe = Math.floor((at - 96) / 8);
  const row = Math.floor(stripe / 3) * 8 + ((at - 96) % 8);
  return [`a:${5000 + row}`, `b:${100 + row}`, `c:${700 + row}`][stripe % 3] ?? '';
}

test('every range of a volume leads to the bytes that it is made of', () => {
  for (let from = 0; from < 256; from += 5) {
    for (let to = from; to <= 256; to += 3) {
      const bytes = runsOf(segments, from, to - from).flatMap(({ pv, offsetBytes, lengthBytes }) =>
        Array.from({ length: lengthBytes }, (_, index) => `${pv}:${offsetBytes + index}`),
      );
      expect(bytes).toEqual(Array.from({ length: to - from }, (_, index) => place(from + index)));
    }
  }
});
