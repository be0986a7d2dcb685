import { expect, it } from 'vitest';
import { pickForVerify } from './pick-verify.ts';

const point = (id: string, bytes: number, verifiedAt: string | null) => ({ id, bytes, verifiedAt });
const ids = (points: readonly { id: string }[]) => points.map(({ id }) => id).join(' ');

it('takes its share, the never verified first, then the oldest verdict', () => {
  const points = [
    point('a', 100, '2026-05-03T00:00:00Z'),
    point('b', 100, '2026-05-01T00:00:00Z'),
    point('c', 100, null),
    point('d', 100, '2026-05-02T00:00:00Z'),
  ];
  expect(ids(pickForVerify(points, 50))).toBe('c b');
  expect(ids(pickForVerify(points, 51))).toBe('c b d');
  expect(ids(pickForVerify(points, 100))).toBe('c b d a');
  expect(ids(pickForVerify(points, 0.1))).toBe('c');
  expect(pickForVerify([], 10)).toEqual([]);
});
