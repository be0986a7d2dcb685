import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { type Policy, policyDocument, policyKinds } from '../definition/policy.ts';
import { serviceUnit, timerTemplate, unitsOf } from './systemd-units.ts';

const shipped = new URL('../../../systemd/', import.meta.url);
const policy = (name: string, more: object): Policy =>
  policyDocument.parse({ name, machines: { patterns: ['*'] }, runner: 'systemd', ...more });

describe('the files in systemd/', () => {
  test.each(policyKinds)('%s: are what the program writes', (kind) => {
    const caller = { ctl: '/usr/bin/sendense-ctl', home: null };
    for (const { name, content } of [serviceUnit(kind, caller), timerTemplate(kind)])
      expect(readFileSync(new URL(name, shipped), 'utf8')).toBe(content);
  });
  it('are all there is', () => {
    const units = readdirSync(shipped).filter((name) => /@\.(service|timer)$/.test(name));
    expect(units).toHaveLength(policyKinds.length * 2);
  });
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sd-units-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** What systemd itself says of the units. */
function verify(): { code: number; text: string } {
  const paths = readdirSync(folder).map((name) => join(folder, name));
  // templates are looked at through the timers that start them
  const units = paths.filter((path) => !path.endsWith('@.service') && !path.endsWith('@.timer'));
  const env = { ...process.env, SYSTEMD_UNIT_PATH: `${folder}:`, LC_ALL: 'C' };
  try {
    const text = execFileSync('sh', ['-c', 'systemd-analyze verify --man=no "$@" 2>&1', 'sh', ...units], {
      ...{ encoding: 'utf8', env },
    });
    return { code: 0, text };
  } catch (error) {
    const { status, stdout } = error as { status: number; stdout: string };
    return { code: status, text: stdout };
  }
}

it('systemd accepts every unit, with every kind of schedule', () => {
  const policies = [
    policy('nightly', {
      ...{ schedule: 'daily at 22:00', time_zone: 'Europe/Berlin', jitter_s: 600 },
      ...{ prune: { schedule: 'weekly on sunday at 05:30' }, verify: { schedule: 'every 6h' } },
      ...{ mirror: { schedule: '0 0 13 * 5' }, boot_test: { schedule: 'monthly on 1 at 12:00' } },
    }),
    policy('a.b_c-1', { schedule: '*/20 8-17/3 * 5-9 mon-fri', time_zone: 'America/New_York' }),
    policy('of-the-daemon', { schedule: 'every 1h', runner: 'daemon' }),
    policy('on-demand', {}),
  ];
  const units = unitsOf(policies, { ctl: '/bin/true', home: '/srv/backup' });
  for (const { name, content } of units) writeFileSync(join(folder, name), content);
  expect(readdirSync(folder)).toEqual(
    [
      ...['backup', 'prune', 'verify', 'mirror', 'boot-test'].map((kind) => `sendense-${kind}@nightly.timer`),
      ...policyKinds.map((kind) => `sendense-${kind}@.service`),
      'sendense-backup@a.b_c-1.timer',
    ].toSorted(),
  );
  expect(verify()).toEqual({ code: 0, text: '' });
  const backup = readFileSync(join(folder, 'sendense-backup@nightly.timer'), 'utf8');
  expect(backup).toContain('OnCalendar=*-*-* 22:00:00 Europe/Berlin\n');
  expect(backup).toContain('Persistent=true\n');
  expect(backup).toContain('RandomizedDelaySec=600\n');
  // either of day and weekday takes two lines
  expect(
    readFileSync(join(folder, 'sendense-mirror@nightly.timer'), 'utf8').match(/^OnCalendar=/gm),
  ).toHaveLength(2);
  expect(readFileSync(join(folder, 'sendense-backup@.service'), 'utf8')).toContain(
    'ExecStart=/bin/true --home /srv/backup policy run %i --kind backup',
  );
});

it('and would say it if one were wrong', () => {
  const [timer] = unitsOf([policy('a', { schedule: 'every 1h' })], { ctl: '/bin/true', home: null });
  writeFileSync(
    join(folder, timer?.name ?? ''),
    (timer?.content ?? '').replace(/^OnCalendar=.*$/m, 'OnCalendar=soon'),
  );
  expect(verify().code).not.toBe(0);
});
