import { planRetention, type RetentionPlan } from '../../src/policy/retention/plan-retention.ts';
import type { RetentionPoint } from '../../src/policy/retention/point.ts';
import { retentionRules } from '../../src/policy/retention/retention-rules.ts';

/** A Tuesday of ISO week 45. */
export const NOON = Date.parse('2026-11-03T12:00Z');

/** A good point without pins whose id is its time, in UTC. */
export const point = (time: string, more: Partial<RetentionPoint> = {}): RetentionPoint => ({
  id: time,
  completedAtMs: Date.parse(`${time}Z`),
  isGood: true,
  pins: [],
  ...more,
});

/** Eight good points of eleven months, newest first. */
export const samplePoints = [
  '2026-11-03T11:00',
  '2026-11-03T02:00',
  '2026-11-02T23:00',
  '2026-11-02T01:00',
  '2026-11-01T12:00',
  '2026-10-31T12:00',
  '2026-10-20T12:00',
  '2025-12-31T12:00',
].map((time) => point(time));

export const plan = (points: readonly RetentionPoint[], rules: object, nowMs = NOON): RetentionPlan =>
  planRetention(points, retentionRules.parse(rules), nowMs);

/** Id, action and sentence of each point, newest first. */
export const reasons = (...args: Parameters<typeof plan>): string[][] =>
  plan(...args).decisions.map(({ id, action, reason }) => [id, action, reason]);

export const keptIds = (...args: Parameters<typeof plan>): string[] =>
  plan(...args).decisions.flatMap(({ id, action }) => (action === 'keep' ? [id] : []));
