import type { RateWindow } from '../../catalog/agents.ts';
import { openTimeZone } from '../../policy/calendar/time-zone.ts';

const MINUTE_MS = 60_000;
const DAY_MINUTES = 24 * 60;

const minuteOf = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));

export interface RatePlan {
  /** Bytes per second; 0: no limit. */
  readonly rateBytes: number;
  readonly windows: readonly RateWindow[];
  readonly timeZone: string;
}

/** Bytes per second that are allowed at an instant: of the first window that it lies in, else the general limit. Pure. */
export function rateAt(plan: RatePlan, now: Date): number {
  if (plan.windows.length === 0) return plan.rateBytes;
  const localMs = now.getTime() + openTimeZone(plan.timeZone).offsetMsAt(now.getTime());
  const minute = Math.floor(localMs / MINUTE_MS) % DAY_MINUTES;
  const window = plan.windows.find(({ from, to }) => {
    const [start, end] = [minuteOf(from), minuteOf(to)];
    return start <= end ? minute >= start && minute < end : minute >= start || minute < end;
  });
  return window?.rateBytes ?? plan.rateBytes;
}
