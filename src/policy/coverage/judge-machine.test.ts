import { expect, it, test } from 'vitest';
import { judgeMachine, type MachineFacts } from './judge-machine.ts';

const at = (text: string): number => Date.parse(text);
const nowMs = at('2026-05-10T12:00Z');
const promise = {
  ...{ policy: 'nightly', schedule: 'daily at 22:00', dueMs: at('2026-05-09T22:00Z') },
  ...{ newestMs: at('2026-05-09T22:00:05Z'), lacking: [] as string[] },
};
const well: MachineFacts = {
  ...{ name: 'web1', unprotected: null, addedMs: at('2026-01-01T00:00Z'), isRunning: false },
  ...{ promises: [promise], failure: null, oldestMs: at('2026-05-01T00:00Z') },
  ...{ verifiedMs: at('2026-05-02T00:00Z'), bootTest: null },
};
const bootTest = {
  ...{ backupId: 'backup-web1-1', testedMs: at('2026-05-02T00:00Z'), isPassed: true, reason: 'a line came' },
};

test.each<[string, Partial<MachineFacts>, string[]]>([
  ['is as it should be', {}, []],
  ['came up when it was booted', { bootTest }, []],
  ['did not come up', { bootTest: { ...bootTest, isPassed: false } }, ['boot_failed alarm']],
  ['is meant by no policy', { promises: [] }, ['unprotected alarm']],
  [
    'is meant only on demand',
    { promises: [{ ...promise, schedule: null, dueMs: null }] },
    ['unprotected alarm'],
  ],
  [
    'has a point from before it was due',
    { promises: [{ ...promise, newestMs: at('2026-05-09T21:59Z') }] },
    ['overdue alarm'],
  ],
  ['never had one', { promises: [{ ...promise, newestMs: null }] }, ['overdue alarm']],
  [
    'is being backed up just now',
    { promises: [{ ...promise, newestMs: null }], isRunning: true },
    ['overdue notice'],
  ],
  [
    'was added after it was due',
    { promises: [{ ...promise, newestMs: null }], addedMs: at('2026-05-10T08:00Z') },
    [],
  ],
  ['waits for its first run', { promises: [{ ...promise, dueMs: null, newestMs: null }] }, []],
  ['fails', { failure: { count: 3, detail: 'SOURCE_MISSING' } }, ['failing alarm']],
  ['was not verified yet', { verifiedMs: null }, ['never_verified notice']],
  [
    'was not verified in a round of the scrub',
    { verifiedMs: null, oldestMs: at('2026-04-01T00:00Z') },
    ['never_verified alarm'],
  ],
  ['has no point to verify', { verifiedMs: null, oldestMs: null }, []],
  [
    'is missing in two mirrors',
    { promises: [{ ...promise, lacking: ['a', 'b'] }] },
    ['not_mirrored alarm', 'not_mirrored alarm'],
  ],
  [
    'keeps one promise of two',
    { promises: [promise, { ...promise, policy: 'hourly', dueMs: at('2026-05-10T11:00Z') }] },
    ['overdue alarm'],
  ],
  ['is left out on purpose', { promises: [], unprotected: 'a test machine' }, []],
])('a machine that %s', (_name, change, wanted) => {
  const found = judgeMachine({ ...well, ...change }, nowMs);
  expect(found.map(({ problem, severity }) => `${problem} ${severity}`)).toEqual(wanted);
});

it('says which policy, when it was due and what there is', () => {
  const [finding] = judgeMachine(
    { ...well, promises: [{ ...promise, newestMs: at('2026-05-08T22:00Z') }] },
    nowMs,
  );
  expect(finding?.detail).toBe(
    'nightly (daily at 22:00) was due at 2026-05-09 22:00 UTC, its newest restore point is of 2026-05-08 22:00 UTC',
  );
});
