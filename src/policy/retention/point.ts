/** A wish that a point stays, whatever the rules say. */
export interface Pin {
  readonly reason: string;
  /** The pin ends at this instant, ms since the epoch; null keeps for ever. */
  readonly untilMs: number | null;
}

/** What retention needs to know of a restore point of one machine. */
export interface RetentionPoint {
  readonly id: string;
  /** When the backup was complete, ms since the epoch. When it began decides nothing. */
  readonly completedAtMs: number;
  /** Complete and undamaged: it can be restored. */
  readonly isGood: boolean;
  readonly pins: readonly Pin[];
}

/** What a Date can hold, ECMA-262 section 21.4.1.1. */
const LARGEST_INSTANT_MS = 8.64e15;
const isInstant = (ms: number): boolean => Math.abs(ms) <= LARGEST_INSTANT_MS;

/**
 * Newest first. Of points with the same time the one with the greater id counts as newer, by code units: our ids end
 * in a time or a running number.
 * @throws RangeError for a time that is none and for an id that comes twice: neither can be decided safely
 */
export function newestFirst(points: readonly RetentionPoint[]): RetentionPoint[] {
  const ids = new Set<string>();
  for (const { id, completedAtMs, pins } of points) {
    if (!isInstant(completedAtMs)) {
      throw new RangeError(`the point ${id} has no valid time of completion: ${completedAtMs}`);
    }
    for (const { reason, untilMs } of pins) {
      if (untilMs !== null && !isInstant(untilMs)) {
        throw new RangeError(`the pin ("${reason}") of the point ${id} has no valid end: ${untilMs}`);
      }
    }
    if (ids.has(id)) throw new RangeError(`the point ${id} is there twice`);
    ids.add(id);
  }
  return points.toSorted((a, b) => b.completedAtMs - a.completedAtMs || (a.id < b.id ? 1 : -1));
}
