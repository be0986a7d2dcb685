/** Times the planning of 100,000 restore points: one an hour for 11.4 years. Run: `node bench/retention.ts`. */
import { planRetention } from '../src/policy/retention/plan-retention.ts';
import { retentionRules } from '../src/policy/retention/retention-rules.ts';

const COUNT = 100_000;
const HOUR_MS = 3_600_000;
const nowMs = Date.UTC(2026, 10, 3, 12, 34);
const points = Array.from({ length: COUNT }, (_, index) => ({
  id: `backup-db-${index}`,
  completedAtMs: nowMs - index * HOUR_MS,
  isGood: index % 50 !== 0,
  pins: [],
}));
const sets = {
  'counts, UTC': { keep_last: 10, hourly: 48, daily: 14, weekly: 8, monthly: 24, yearly: 10 },
  'counts, Europe/Berlin': {
    hourly: 48,
    daily: 14,
    weekly: 8,
    monthly: 24,
    yearly: 10,
    time_zone: 'Europe/Berlin',
  },
  'durations, Australia/Lord_Howe': {
    keep_within: '3d',
    hourly: '2d',
    daily: '8w',
    weekly: '6mo',
    monthly: '2y',
    yearly: '10y',
    time_zone: 'Australia/Lord_Howe',
  },
};
for (const [name, rules] of Object.entries(sets)) {
  for (const run of ['first', 'again']) {
    const startCpu = process.cpuUsage();
    const startMs = performance.now();
    const { decisions } = planRetention(points, retentionRules.parse(rules), nowMs);
    const tookMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(startCpu);
    const kept = decisions.filter(({ action }) => action === 'keep').length;
    console.log(
      `${name}, ${run}: ${tookMs.toFixed(0)} ms (${((user + system) / 1000).toFixed(0)} ms of CPU) for ${COUNT} points, ${kept} kept`,
    );
  }
}
