import type { Pin, RetentionPoint } from './point.ts';
import type { Judge, KeptBy } from './verdict.ts';

/** What happens to one point, and why. */
export interface RetentionDecision {
  readonly id: string;
  readonly action: 'keep' | 'delete';
  /** Everything that keeps the point; empty when it is deleted. */
  readonly rules: readonly KeptBy[];
  /** One sentence for a person. */
  readonly reason: string;
}

/** Decides about the next older point; the judges must have seen every newer one. */
export function decide(point: RetentionPoint, judges: readonly Judge[], nowMs: number): RetentionDecision {
  const { id } = point;
  const pins = point.pins.filter((pin) => !hasEnded(pin, nowMs));
  const pinned: KeptBy[] = pins.map((pin) => ({ rule: 'pin', reason: pin.reason, untilMs: pin.untilMs }));
  const damage = point.isGood ? [] : ['damaged, so it did not count'];
  // no judge sees it: a clock that was set back must not let it push others out
  if (point.completedAtMs > nowMs) {
    const future = `completed at ${utc(point.completedAtMs)}, in the future: kept and not counted`;
    const reason = sentence([...damage, future, ...pins.map(describePin)]);
    return { id, action: 'keep', rules: [{ rule: 'future' }, ...pinned], reason };
  }

  const kept: KeptBy[] = [];
  const whyKept: string[] = [];
  const whyNot: string[] = [];
  for (const judge of judges) {
    const verdict = judge(point);
    if (verdict.keeps) kept.push(verdict.by);
    (verdict.keeps ? whyKept : whyNot).push(verdict.because);
  }
  if (kept.length === 0 && pinned.length === 0) {
    const none = `${point.isGood ? 'no rule keeps it' : 'no rule would keep it were it good'}: ${whyNot.join(', ')}`;
    const reason = sentence([...damage, none, ...point.pins.flatMap(describeEnd)]);
    return { id, action: 'delete', rules: [], reason };
  }
  const byRules =
    whyKept.length === 0 ? [] : [`${point.isGood ? '' : 'were it good: '}${whyKept.join(', ')}`];
  const reason = sentence([...damage, ...pins.map(describePin), ...byRules]);
  return { id, action: 'keep', rules: [...pinned, ...kept], reason };
}

const hasEnded = (pin: Pin, nowMs: number): boolean => pin.untilMs !== null && pin.untilMs <= nowMs;

const describePin = ({ reason, untilMs }: Pin): string =>
  `pinned ${untilMs === null ? 'for ever' : `until ${utc(untilMs)}`} ("${reason}")`;

const describeEnd = ({ reason, untilMs }: Pin): string[] =>
  untilMs === null ? [] : [`its pin ("${reason}") ended at ${utc(untilMs)}`];

const sentence = (parts: readonly string[]): string => parts.join('; ');

/** `2026-11-03T14:00:00Z`. */
const utc = (instantMs: number): string => `${new Date(instantMs).toISOString().slice(0, -5)}Z`;
