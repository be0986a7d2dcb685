const DAY_MS = 24 * 3600 * 1000;
/** Older days say little of the next ones. */
const WINDOW_DAYS = 30;
/** With fewer days the first full backup looks like growth. */
const MIN_DAYS = 5;
/** Beyond this nobody can tell. */
const MAX_DAYS = 3650;

export interface SizeOnDay {
  /** As in `2026-11-20`, UTC. */
  readonly day: string;
  readonly usedBytes: number;
}

export interface SpaceForecast {
  /** Negative when it shrinks; null when too few days are known. */
  readonly growthBytesPerDay: number | null;
  /** When nothing but the reserve is left; null when that is not in sight. */
  readonly fullAt: Date | null;
}

/**
 * How fast a repository grows and when it will be full. The median of the slopes between any two days: one day on
 * which much came or went does not turn it. Pure.
 */
export function forecastSpace(
  sizes: readonly SizeOnDay[],
  availableBytes: number,
  reserveBytes: number,
  now: Date,
): SpaceForecast {
  const today = Math.floor(now.getTime() / DAY_MS);
  const known = sizes
    .map(({ day, usedBytes }) => ({ day: Date.parse(`${day}T00:00:00Z`) / DAY_MS, usedBytes }))
    .filter(({ day }) => day <= today && day > today - WINDOW_DAYS)
    .toSorted((a, b) => a.day - b.day);
  if (known.length < MIN_DAYS) return { growthBytesPerDay: null, fullAt: null };
  const slopes = known.flatMap((later, index) =>
    known.slice(0, index).map((earlier) => (later.usedBytes - earlier.usedBytes) / (later.day - earlier.day)),
  );
  const growthBytesPerDay = Math.round(median(slopes));
  const left = Math.max(0, availableBytes - reserveBytes);
  if (left === 0) return { growthBytesPerDay, fullAt: now };
  const days = left / growthBytesPerDay;
  const isInSight = growthBytesPerDay > 0 && days <= MAX_DAYS;
  return { growthBytesPerDay, fullAt: isInSight ? new Date(now.getTime() + days * DAY_MS) : null };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}
