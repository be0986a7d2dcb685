import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { TaskQueue } from './task-queue.ts';

let queue: TaskQueue;
let order: string[];
let taken: Map<string, number>;
let most: Map<string, number>;

beforeEach(() => {
  queue = new TaskQueue();
  order = [];
  taken = new Map();
  most = new Map();
});
afterEach(() => {
  queue.close();
});

/** A task that watches its own limits from outside. */
const task = (
  name: string,
  limits: Record<string, number>,
  more: { priority?: number; isOpen?: () => boolean } = {},
) => ({
  priority: more.priority ?? 50,
  limits: Object.entries(limits).map(([key, max]) => ({ key, max })),
  mayBegin: more.isOpen ?? (() => true),
  run: async () => {
    order.push(name);
    for (const key of Object.keys(limits)) {
      const count = (taken.get(key) ?? 0) + 1;
      taken.set(key, count);
      most.set(key, Math.max(most.get(key) ?? 0, count));
    }
    await sleep(1 + (name.length % 3));
    for (const key of Object.keys(limits)) taken.set(key, (taken.get(key) ?? 0) - 1);
    return 'done' as const;
  },
});
const idle = async () => {
  while (queue.size > 0) await sleep(1);
};

it('begins each of hundreds once and keeps every limit', async () => {
  const limits = (index: number) => ({
    ...{ backups: 4, [`repository ${index % 3}`]: 2, [`source ${index % 7}`]: 1, [`vm ${index % 50}`]: 1 },
  });
  queue.add(Array.from({ length: 300 }, (_, index) => task(`t${index}`, limits(index))));
  await idle();
  expect(order).toHaveLength(300);
  expect(new Set(order).size).toBe(300);
  expect(most.get('backups')).toBe(4);
  for (const [key, count] of most)
    expect(count).toBeLessThanOrEqual(key === 'backups' ? 4 : key.startsWith('rep') ? 2 : 1);
});

it('begins the more important first, then who came first; one that is held back holds nobody else back', async () => {
  const one = { all: 1 };
  queue.add([task('now', one)]);
  queue.add([
    task('a', one, { priority: 10 }),
    task('b', one, { priority: 90 }),
    task('closed', one, { priority: 100, isOpen: () => false }),
    task('c', one, { priority: 90 }),
    task('beside', { other: 1 }, { priority: 0 }),
  ]);
  while (order.length < 5) await sleep(1);
  expect(order.filter((name) => name !== 'beside')).toEqual(['now', 'b', 'c', 'a']);
  expect(order.indexOf('beside')).toBe(1);
});

it('begins nothing once it is closed', async () => {
  queue.add([task('a', { all: 1 }), task('b', { all: 1 })]);
  queue.close();
  await sleep(10);
  expect(order).toEqual(['a']);
});
