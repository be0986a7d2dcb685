import { describe, expect, it, test } from 'vitest';
import { absentNames } from './absent-names.ts';
import { diffPolicies } from './diff-policies.ts';
import { type Policy, policyDocument, rulesOf } from './policy.ts';
import { selects } from './select-machines.ts';

const policy = (name: string, more: object = {}): Policy =>
  policyDocument.parse({ name, machines: { patterns: ['*'] }, ...more });

describe('policyDocument', () => {
  test.each([
    ['no machines', { machines: {} }, /no machine is meant/],
    ['a schedule that is none', { schedule: 'sometimes' }, /is no schedule/],
    ['a zone that is none', { time_zone: 'Europe/Nowhere' }, /IANA/],
    ['a field that is none', { shedule: 'daily at 22:00' }, /Unrecognized/],
    ['hours that are none', { window: { from: '22:00', to: '22:00' } }, /the same/],
    ['two names of one rule', { retention: { keep_last: 3, max_snapshots: 3 } }, /the same rule/],
  ])('refuses %s', (_name, wrong, why) => {
    expect(() => policy('nightly', wrong)).toThrow(why);
  });

  it('counts days where the policy is at home unless its rules say otherwise', () => {
    expect(rulesOf(policy('a', { time_zone: 'Europe/Berlin', retention: { daily: 7 } }))?.time_zone).toBe(
      'Europe/Berlin',
    );
    expect(
      rulesOf(policy('a', { time_zone: 'Europe/Berlin', retention: { daily: 7, time_zone: 'UTC' } }))
        ?.time_zone,
    ).toBe('UTC');
  });

  it('is read again as it was stored', () => {
    const full = policy('a', {
      verify: { schedule: 'daily at 03:00' },
      boot_test: { schedule: 'every 12h' },
    });
    expect(policyDocument.parse(JSON.parse(JSON.stringify(full)))).toEqual(full);
  });
});

describe('selects', () => {
  const none = { names: [], patterns: [], labels: {}, except: [] };
  test.each([
    [{ ...none, names: ['web1'] }, 'web1', {}, true],
    [{ ...none, names: ['web1'] }, 'web10', {}, false],
    [{ ...none, patterns: ['web*'] }, 'web10', {}, true],
    [{ ...none, patterns: ['web?'] }, 'web10', {}, false],
    [{ ...none, patterns: ['*.example'] }, 'aXexample', {}, false],
    [{ ...none, patterns: ['*a*b*c'] }, 'xxaxxbxxcxxc', {}, true],
    [{ ...none, patterns: ['*'], except: ['test-*'] }, 'test-1', {}, false],
    [{ ...none, labels: { tier: 'gold' } }, 'db1', { tier: 'gold', os: 'linux' }, true],
    [{ ...none, labels: { tier: 'gold', os: 'linux' } }, 'db1', { tier: 'gold' }, false],
    [{ ...none, names: ['db2'], labels: { tier: 'gold' } }, 'db1', { tier: 'gold' }, true],
    [{ ...none, labels: {} }, 'db1', {}, false],
  ])('%j and %s %j: %s', (selector, name, labels, wanted) => {
    expect(selects(selector)({ name, labels })).toBe(wanted);
  });

  it('takes no time for a pattern that would make a regular expression go round', () => {
    const before = performance.now();
    expect(
      selects({ ...none, patterns: [`${'*a'.repeat(31)}b`] })({ name: 'a'.repeat(64), labels: {} }),
    ).toBe(false);
    expect(performance.now() - before).toBeLessThan(100);
  });
});

describe('absentNames', () => {
  const known = {
    machines: new Set(['web1']),
    repositories: new Set(['local']),
    mirrors: new Set(['offsite']),
  };
  it('tells names that nobody has, each once, and never patterns, labels or exceptions', () => {
    const machines = { names: ['web1', 'web9', 'web9'], patterns: ['x*'], labels: { a: 'b' }, except: ['y'] };
    const wanted = policy('a', { machines, repository: 'away', mirrors: ['offsite', 'moon'] });
    expect(absentNames(wanted, known)).toEqual([
      { what: 'repository', name: 'away' },
      { what: 'mirror', name: 'moon' },
      { what: 'machine', name: 'web9' },
    ]);
  });
  it('is quiet when all of them are there', () => {
    expect(absentNames(policy('a', { mirrors: ['offsite'] }), known)).toEqual([]);
  });
});

describe('diffPolicies', () => {
  const current = [policy('a'), policy('b', { schedule: 'daily at 22:00' }), policy('c')];
  const wanted = [
    policy('b', { schedule: 'daily at 23:00', retention: { daily: 7 } }),
    policy('c'),
    policy('d'),
  ];
  it('names what is added, changed, left and extra', () => {
    const changes = diffPolicies(current, wanted, false);
    expect(changes.map(({ name, change }) => `${name} ${change}`)).toEqual([
      'a extra',
      'b change',
      'c same',
      'd add',
    ]);
    expect(changes[1]?.fields).toEqual([
      { field: 'retention', from: null, to: { daily: 7 } },
      { field: 'schedule', from: 'daily at 22:00', to: 'daily at 23:00' },
    ]);
  });
  it('removes only when that was asked for', () => {
    expect(diffPolicies(current, wanted, true)[0]).toEqual({ name: 'a', change: 'remove', fields: [] });
  });
});
