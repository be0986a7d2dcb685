/** What one run of a policy verifies. */
interface Candidate {
  readonly id: string;
  readonly bytes: number;
  readonly verifiedAt: string | null;
}

/**
 * So many percent of the bytes, the longest unverified first, never verified before all; at least one point. So each
 * point has its turn after 100 / percent runs. Pure.
 * @param points of one machine, in any order
 */
export function pickForVerify<T extends Candidate>(points: readonly T[], percent: number): T[] {
  const order = points.toSorted((a, b) => {
    const [x, y] = [a.verifiedAt ?? '', b.verifiedAt ?? ''];
    return x === y ? 0 : x < y ? -1 : 1;
  });
  const share = (order.reduce((sum, { bytes }) => sum + bytes, 0) * percent) / 100;
  const picked: T[] = [];
  let bytes = 0;
  for (const point of order) {
    if (picked.length > 0 && bytes >= share) break;
    picked.push(point);
    bytes += point.bytes;
  }
  return picked;
}
