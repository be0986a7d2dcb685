import { decide, type RetentionDecision } from './decide.ts';
import { judgesOf } from './judges-of.ts';
import { newestFirst, type RetentionPoint } from './point.ts';
import type { RetentionRules } from './retention-rules.ts';

export interface RetentionPlan {
  /** One for each point, newest first. */
  readonly decisions: readonly RetentionDecision[];
  /** There are good points and none of them would be left. Carried out only by who was asked for exactly that. */
  readonly deletesLastGood: boolean;
}

/**
 * Decides which restore points of one machine stay. Pure; the order of the points does not matter.
 * @param points of one machine in one repository
 * @param rules as `retentionRules` parsed them
 * @param nowMs ms since the epoch
 * @throws RangeError for a point without a valid time and for an id that comes twice
 */
export function planRetention(
  points: readonly RetentionPoint[],
  rules: RetentionRules,
  nowMs: number,
): RetentionPlan {
  const judges = judgesOf(rules, nowMs);
  const decisions: RetentionDecision[] = [];
  let goodKept = 0;
  let goodDeleted = 0;
  for (const point of newestFirst(points)) {
    const decision = decide(point, judges, nowMs);
    decisions.push(decision);
    if (!point.isGood) continue;
    if (decision.action === 'keep') goodKept += 1;
    else goodDeleted += 1;
  }
  return { decisions, deletesLastGood: goodKept === 0 && goodDeleted > 0 };
}
