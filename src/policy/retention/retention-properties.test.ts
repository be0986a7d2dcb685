import { expect, it } from 'vitest';
import { type SeededRandom, seededRandom } from '../../../test/support/seeded-random.ts';
import { bucketKeyOf, bucketLabel } from '../calendar/bucket.ts';
import { openTimeZone } from '../calendar/time-zone.ts';
import { bucketRules } from './bucket-rules.ts';
import { planRetention } from './plan-retention.ts';
import type { RetentionPoint } from './point.ts';
import { type RetentionRules, retentionRules } from './retention-rules.ts';

const seed = Number(process.env['PROPERTY_SEED'] ?? Math.floor(Math.random() * 1e9));
const ROUNDS = 250;
const HOUR_MS = 3_600_000;

const zones = ['UTC', 'Europe/Berlin', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'America/St_Johns'];
const durations = ['90m', '36h', '14d', '8w', '6mo', '2y'];
const keys = ['keep_last', 'keep_within', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;
type Key = (typeof keys)[number];

function randomValue(random: SeededRandom, key: Key): number | string {
  const wantsDuration = key === 'keep_within' || (key !== 'keep_last' && random.below(2) === 0);
  return wantsDuration ? random.pick(durations) : 1 + random.below(8);
}

/** At least one rule: without any everything is kept, and a first rule may well delete. */
function randomRules(random: SeededRandom, some: readonly Key[]): RetentionRules {
  const chosen = some.map((key) => [key, randomValue(random, key)]);
  return retentionRules.parse({ ...Object.fromEntries(chosen), time_zone: random.pick(zones) });
}

const someKeys = (random: SeededRandom) => random.shuffled(keys).slice(0, 1 + random.below(keys.length));

/** Bunches with equal times, damage, pins and a few points of the future. */
function randomPoints(random: SeededRandom, nowMs: number): RetentionPoint[] {
  const spanMs = random.pick([3, 48, 24 * 20, 24 * 400, 24 * 1200]) * HOUR_MS;
  const stepMs = random.pick([1, 60_000, HOUR_MS]);
  return Array.from({ length: random.below(60) }, (_, index) => ({
    id: `point-${index}`,
    completedAtMs: nowMs - Math.floor((random.next() * 1.05 - 0.05) * (spanMs / stepMs)) * stepMs,
    isGood: random.below(5) > 0,
    pins:
      random.below(10) > 0
        ? []
        : [{ reason: 'test', untilMs: random.pick([null, nowMs, nowMs - 1, nowMs + 1]) }],
  }));
}

function everyRound(check: (random: SeededRandom, points: RetentionPoint[], nowMs: number) => void): void {
  const random = seededRandom(seed);
  for (let round = 0; round < ROUNDS; round += 1) {
    // around a change of clocks in one half of the rounds
    const base = Date.parse(random.pick(['2026-10-25T03:00Z', '2026-03-29T03:00Z', '2027-01-02T09:30Z']));
    const nowMs = base + random.below(48) * HOUR_MS;
    check(random, randomPoints(random, nowMs), nowMs);
  }
}

const kept = (points: readonly RetentionPoint[], rules: RetentionRules, nowMs: number) =>
  planRetention(points, rules, nowMs).decisions.filter(({ action }) => action === 'keep');

const named = (name: string) => `${name} (PROPERTY_SEED=${seed})`;

it(named('plans the same for any order of the points'), () => {
  everyRound((random, points, nowMs) => {
    const rules = randomRules(random, someKeys(random));
    expect(planRetention(random.shuffled(points), rules, nowMs)).toEqual(planRetention(points, rules, nowMs));
  });
});

it(named('decides the same again once the deleted points are gone'), () => {
  everyRound((random, points, nowMs) => {
    const rules = randomRules(random, someKeys(random));
    const first = kept(points, rules, nowMs);
    const ids = new Set(first.map(({ id }) => id));
    const left = points.filter(({ id }) => ids.has(id));
    expect(planRetention(left, rules, nowMs).decisions).toEqual(first);
  });
});

it(named('deletes no more when a rule is added'), () => {
  everyRound((random, points, nowMs) => {
    const [added = 'daily', ...some] = random.shuffled(keys).slice(0, 2 + random.below(keys.length - 1));
    const fewer = randomRules(random, some);
    const more = retentionRules.parse({ ...fewer, [added]: randomValue(random, added) });
    const ids = new Set(kept(points, more, nowMs).map(({ id }) => id));
    for (const { id } of kept(points, fewer, nowMs)) expect(ids).toContain(id);
  });
});

it(
  named('keeps for each bucket its newest good point, in as many of the newest buckets as were asked for'),
  () => {
    everyRound((random, points, nowMs) => {
      const { rule, unit } = random.pick(bucketRules);
      const count = 1 + random.below(8);
      const rules = retentionRules.parse({ [rule]: count, time_zone: random.pick(zones) });
      const zone = openTimeZone(rules.time_zone);
      const good = points.filter(({ isGood, completedAtMs }) => isGood && completedAtMs <= nowMs);
      const newest = new Map<string, RetentionPoint>();
      for (const point of good) {
        const label = bucketLabel(unit, bucketKeyOf(unit, point.completedAtMs, zone));
        const other = newest.get(label);
        const isNewer =
          !other ||
          point.completedAtMs > other.completedAtMs ||
          (point.completedAtMs === other.completedAtMs && point.id > other.id);
        if (isNewer) newest.set(label, point);
      }
      const expected = [...newest]
        .toSorted(([, a], [, b]) => b.completedAtMs - a.completedAtMs)
        .slice(0, count)
        .map(([bucket, { id }], index) => ({ id, rule, bucket, rank: index + 1, of: count }));
      const goodIds = new Set(good.map(({ id }) => id));
      const found = kept(points, rules, nowMs)
        .filter(({ id }) => goodIds.has(id))
        .flatMap(({ id, rules: by }) => by.filter((one) => one.rule === rule).map((one) => ({ id, ...one })));
      expect(found).toEqual(expected);
    });
  },
);

it(named('keeps as many good points as keep_last says'), () => {
  everyRound((random, points, nowMs) => {
    const count = 1 + random.below(20);
    const good = points.filter(({ isGood, completedAtMs }) => isGood && completedAtMs <= nowMs);
    const unpinned = points.map((point) => ({ ...point, pins: [] }));
    const ids = new Set(
      kept(unpinned, retentionRules.parse({ keep_last: count }), nowMs).map(({ id }) => id),
    );
    expect(good.filter(({ id }) => ids.has(id))).toHaveLength(Math.min(count, good.length));
  });
});

it(named('deletes nothing of the future and nothing pinned, and says when no good point is left'), () => {
  everyRound((random, points, nowMs) => {
    const rules = randomRules(random, someKeys(random));
    const { decisions, deletesLastGood } = planRetention(points, rules, nowMs);
    const gone = new Set(decisions.flatMap(({ id, action }) => (action === 'delete' ? [id] : [])));
    for (const point of points.filter(({ id }) => gone.has(id))) {
      expect(point.completedAtMs).toBeLessThanOrEqual(nowMs);
      expect(point.pins.every(({ untilMs }) => untilMs !== null && untilMs <= nowMs)).toBe(true);
    }
    const good = points.filter(({ isGood }) => isGood);
    expect(deletesLastGood).toBe(good.length > 0 && good.every(({ id }) => gone.has(id)));
  });
});
