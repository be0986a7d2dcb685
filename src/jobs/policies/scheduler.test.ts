import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { type Catalog, createCatalog } from '../../catalog/catalog.ts';
import { openTimeZone } from '../../policy/calendar/time-zone.ts';
import { policyDocument } from '../../policy/definition/policy.ts';
import { PolicyBook } from './policy-book.ts';
import { Scheduler } from './scheduler.ts';

const at = (text: string): number => Date.parse(text);
const iso = (ms: number): string => new Date(ms).toISOString().slice(0, 16);
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A daemon whose clock the test moves: the real book, the real catalogue, the real scheduler. */
class Simulation {
  nowMs: number;
  readonly folder = mkdtempSync(join(tmpdir(), 'sd-sched-'));
  readonly clock = { now: () => new Date(this.nowMs) };
  readonly logger = pino({ level: 'silent' });
  readonly catalog: Catalog;
  book: PolicyBook;
  scheduler: Scheduler;
  readonly begun: { policy: string; dueMs: number; atMs: number; missed: number }[] = [];

  constructor(startMs: number) {
    this.nowMs = startMs;
    // the claims of a year are thousands; how durable each is, other tests show
    this.catalog = createCatalog(':memory:', this.clock, this.logger);
    this.book = this.#open();
    this.scheduler = this.#wire();
  }

  #open = () => new PolicyBook(join(this.folder, 'policies'), this.clock);
  #wire = () =>
    new Scheduler({
      book: this.book,
      runs: this.catalog.policyRuns,
      clock: this.clock,
      logger: this.logger,
      begin: ({ name }, kind, { dueMs, missed }) => {
        const claimed = this.catalog.policyRuns.claim(
          {
            ...{ policy: name, kind, missed, startedBy: 'schedule' as const },
            ...{ dueAt: new Date(dueMs).toISOString(), claimedAt: this.clock.now().toISOString() },
          },
          [],
        );
        if (claimed) this.begun.push({ policy: name, dueMs, atMs: this.nowMs, missed });
      },
    });

  async add(name: string, schedule: string, more: object = {}): Promise<void> {
    await this.book.save(policyDocument.parse({ name, machines: { patterns: ['*'] }, schedule, ...more }));
  }

  /** All that a daemon knows but its files and its catalogue is gone. */
  restart(): void {
    this.book = this.#open();
    this.scheduler = this.#wire();
  }

  /** Lives until then, looking whenever the scheduler wants to, and never later than it asked for. */
  until(endMs: number): void {
    while (this.nowMs < endMs) this.nowMs = Math.min(endMs, Math.max(this.nowMs + 50, this.scheduler.tick()));
    this.scheduler.tick();
  }

  /** As `until`, in strides: the look every 20 s only matters when a clock is set. */
  stride(endMs: number, stepMs: number): void {
    for (; this.nowMs < endMs; this.nowMs += stepMs) this.scheduler.tick();
    this.nowMs = endMs;
    this.scheduler.tick();
  }

  dues = (policy: string): string[] =>
    this.begun.filter((run) => run.policy === policy).map(({ dueMs }) => iso(dueMs));

  [Symbol.dispose](): void {
    this.catalog[Symbol.dispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let life: Simulation;
beforeEach(() => {
  life = new Simulation(at('2026-01-01T00:00:30Z'));
});
afterEach(() => {
  life[Symbol.dispose]();
});

describe('time that goes on', () => {
  it('lives through a day of quarters of an hour, each on its second', async () => {
    await life.add('quarter', 'every 15m');
    life.until(at('2026-01-02T00:00:00Z'));
    expect(life.begun.map(({ dueMs, atMs }) => atMs - dueMs)).toEqual(Array.from({ length: 96 }, () => 0));
    expect(new Set(life.dues('quarter')).size).toBe(96);
  });

  it('lives through a week of several policies with jitter: none is missed, doubled or early', async () => {
    await life.add('a', 'every 1h', { jitter_s: 1200 });
    await life.add('b', 'weekdays at 22:00', { time_zone: 'America/New_York' });
    await life.add('c', 'weekly on sunday at 03:00', { time_zone: 'Europe/Berlin', jitter_s: 600 });
    life.stride(at('2026-01-08T00:00:00Z'), 90_000);
    expect(life.dues('a')).toHaveLength(7 * 24 - 1);
    expect(life.dues('b')).toEqual([
      ...['2026-01-01T03:00', '2026-01-02T03:00', '2026-01-03T03:00', '2026-01-06T03:00'],
      '2026-01-07T03:00',
    ]);
    expect(life.dues('c')).toEqual(['2026-01-04T02:00']);
    for (const { policy, dueMs, atMs, missed } of life.begun) {
      expect(missed).toBe(0);
      expect(atMs).toBeGreaterThanOrEqual(dueMs);
      expect(atMs - dueMs).toBeLessThan((policy === 'a' ? 1200 : 600) * 1000 + 90_000);
    }
  });

  test.each([
    ['Europe/Berlin', '2026-03-29', '2026-10-25'],
    ['America/New_York', '2026-03-08', '2026-11-01'],
  ])(
    'lives through a year of %s: half past two each day, also on the day without it',
    async (zone, leap, back) => {
      await life.add('night', '30 2 * * *', { time_zone: zone });
      await life.add('hourly', '0 * * * *', { time_zone: zone });
      life.stride(at('2027-01-01T00:00:00Z'), 30 * 60_000);
      const clock = openTimeZone(zone);
      const localDays = life.begun
        .filter(({ policy }) => policy === 'night')
        .map(({ dueMs }) => new Date(dueMs + clock.offsetMsAt(dueMs)).toISOString().slice(0, 10));
      // one on each day of the year that the place saw half past two of
      const days = new Set(localDays);
      expect(localDays).toHaveLength(days.size);
      expect([days.size, days.has(leap), days.has(back)]).toEqual([365, true, true]);
      expect(life.dues('hourly')).toHaveLength(365 * 24 - 1 + 1);
      expect(life.begun.every(({ missed }) => missed === 0)).toBe(true);
    },
  );
});

describe('a clock that moves, and a daemon that does not', () => {
  beforeEach(async () => {
    await life.add('daily', 'daily at 22:00');
    life.stride(at('2026-01-03T22:30:00Z'), 60_000);
    expect(life.dues('daily')).toHaveLength(3);
  });

  it('is caught up once after days without a daemon, and told how many were missed', () => {
    life.nowMs = at('2026-01-10T09:00:00Z');
    life.restart();
    life.stride(at('2026-01-10T23:00:00Z'), 60_000);
    expect(life.begun.slice(3).map(({ dueMs, missed }) => [iso(dueMs), missed])).toEqual([
      ['2026-01-09T22:00', 5],
      ['2026-01-10T22:00', 0],
    ]);
  });

  it('is not doubled by restarts in the same second', () => {
    life.nowMs = at('2026-01-04T22:00:00.200Z');
    for (let restarts = 0; restarts < 5; restarts += 1) {
      life.scheduler.tick();
      life.restart();
      life.nowMs += 100;
    }
    expect(life.dues('daily').slice(3)).toEqual(['2026-01-04T22:00']);
  });

  it('does nothing again when the clock is set back, whatever by', () => {
    for (const backMs of [10_000, HOUR_MS, 30 * HOUR_MS]) {
      life.nowMs -= backMs;
      life.scheduler.tick();
      life.stride(at('2026-01-03T22:40:00Z'), 60_000);
      expect(life.dues('daily')).toHaveLength(3);
    }
    life.stride(at('2026-01-04T22:10:00Z'), 60_000);
    expect(life.dues('daily')).toHaveLength(4);
  });

  it('goes on after a clock that stood years ahead, at once when it is right again', async () => {
    life.nowMs = at('2030-06-01T12:00:00Z');
    life.scheduler.tick();
    await life.add('ahead', 'daily at 21:00');
    life.nowMs = at('2026-01-04T12:00:00Z');
    life.stride(at('2026-01-06T12:00:00Z'), 60_000);
    expect(life.dues('daily').slice(3)).toEqual(['2030-05-31T22:00', '2026-01-04T22:00', '2026-01-05T22:00']);
    expect(life.dues('ahead')).toEqual(['2026-01-04T21:00', '2026-01-05T21:00']);
  });

  it('does not catch up what was due before its schedule was changed, nor what nobody here runs', async () => {
    await life.add('daily', 'daily at 20:00');
    life.scheduler.tick();
    expect(life.dues('daily')).toHaveLength(3);
    await life.add('daily', 'daily at 20:00', { runner: 'systemd' });
    life.stride(life.nowMs + 2 * DAY_MS, 60_000);
    expect(life.dues('daily')).toHaveLength(3);
  });

  it('runs once at the opening what was due in closed hours', async () => {
    await life.add('closed', 'every 1h', { window: { from: '06:00', to: '08:00' } });
    life.stride(at('2026-01-04T12:00:00Z'), 60_000);
    expect(life.begun.filter(({ policy }) => policy === 'closed').map(({ atMs }) => iso(atMs))).toEqual([
      '2026-01-04T06:00',
      '2026-01-04T07:00',
    ]);
  });
});
