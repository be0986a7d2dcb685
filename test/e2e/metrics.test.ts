import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { makePlainDisk } from '../support/guest-disk.ts';
import { TlsApi } from '../support/tls-api.ts';

const work = mkdtempSync(join(tmpdir(), 'sd-prom-'));
const deploy = new URL('../../deploy/', import.meta.url).pathname;
const appliance = new TestAppliance();
let text = '';
let backup = { created_at: '', completed_at: '', bytes_transferred: 0 };

beforeAll(async () => {
  makePlainDisk(join(work, 'disk'), 8);
  await appliance.start(['api.listen=127.0.0.1:0']);
  appliance.json('vm', 'add', 'web', '--disk', join(work, 'disk'));
  appliance.json('vm', 'add', 'never', '--disk', join(work, 'disk'));
  const { backup_id } = appliance.json<{ backup_id: string }>('backup', 'start', '--vm', 'web', '--wait');
  backup = appliance.json('backup', 'show', backup_id);
  using api = new TlsApi(appliance);
  const token = api.token('prometheus', 'viewer');
  const answer = await api.ask('GET', '/metrics', token);
  expect(answer.headers['content-type']).toContain('text/plain; version=0.0.4');
  text = answer.body;
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

const measured = (series: string): number | null => {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line === undefined ? null : Number(line.slice(series.length));
};
const promtool = (input: string, ...args: string[]) => {
  const { status, stderr, stdout } = spawnSync('promtool', args, { input, encoding: 'utf8', cwd: deploy });
  return { status, said: `${stdout}${stderr}` };
};

test('promtool finds nothing to complain about', () => {
  expect(promtool(text, 'check', 'metrics')).toEqual({ status: 0, said: '' });
});

test('they say what the catalogue says', () => {
  expect(measured('sendense_machines')).toBe(2);
  expect(measured('sendense_machines_without_good_point')).toBe(1);
  expect(measured('sendense_machine_last_success_timestamp_seconds{machine="web"}')).toBe(
    Date.parse(backup.completed_at) / 1000,
  );
  expect(measured('sendense_machine_last_success_timestamp_seconds{machine="never"}')).toBeNull();
  expect(measured('sendense_machine_last_backup_transferred_bytes{machine="web"}')).toBe(
    backup.bytes_transferred,
  );
  expect(measured('sendense_machine_last_backup_ok{machine="web"}')).toBe(1);
  expect(measured('sendense_machine_chain_depth{machine="web"}')).toBe(1);
  const age = measured('sendense_machine_newest_good_point_age_seconds{machine="web"}') ?? -1;
  expect(age).toBeGreaterThanOrEqual(0);
  expect(age).toBeLessThan(120);
  expect(measured('sendense_repository_up{repository="local"}')).toBe(1);
  expect(measured('sendense_events_total{kind="backup.completed",severity="info"}')).toBe(1);
  expect(measured('sendense_jobs{status="running"}')).toBe(0);
  expect(text).toMatch(/^sendense_build_info\{version="[\d.]+",node="[\d.]+",qemu="[\d.]+"\} 1$/m);
});

/** Name → type, help and labels, from what the appliance answers. */
const described = () =>
  text.split('\n').flatMap((line) => {
    const [, name = '', help = ''] = /^# HELP (\S+) (.*)$/.exec(line) ?? [];
    return name === ''
      ? []
      : [{ name, help, type: new RegExp(`^# TYPE ${name} (\\w+)$`, 'm').exec(text)?.[1] }];
  });

test('each is in docs/metrics.md', async () => {
  expect(described().length).toBeGreaterThan(20);
  const lines = described().map(({ name, help, type }) => `| \`${name}\` | ${type} | ${help} |`);
  const page = [
    '# Metrics',
    '',
    'Made by `npx vitest run test/e2e/metrics.test.ts -u` from what the appliance answers. Units are in the names; bytes are bytes. Names and labels are a',
    'contract: they are only added to. `docs/operations.md` says how Prometheus gets them.',
    '',
    'Series of machines have the label `machine`; at most 10000 machines have any (`sendense_machines_left_out` counts the rest). Others have `repository`, `mirror`,',
    '`status`, or `kind` and `severity`: kinds of events beyond 200 are counted as `other`.',
    '',
    '| name | type | what it is |',
    '| --- | --- | --- |',
    ...lines.toSorted(),
    '',
  ].join('\n');
  await expect(page).toMatchFileSnapshot('../../docs/metrics.md');
});

test.each(['prometheus-alerts.yml', 'grafana-dashboard.json'])(
  '%s names only metrics that there are',
  (name) => {
    const known = new Set(described().map((metric) => metric.name));
    const used = new Set(readFileSync(join(deploy, name), 'utf8').match(/\bsendense_[a-z_]+/g));
    expect(used.size).toBeGreaterThan(9);
    expect([...used].filter((metric) => !known.has(metric))).toEqual([]);
  },
);

test('the alert rules are valid, and fire when they should', () => {
  const checked = promtool('', 'check', 'rules', 'prometheus-alerts.yml');
  expect(checked.status, checked.said).toBe(0);
  const tested = promtool('', 'test', 'rules', 'prometheus-alerts.test.yml');
  expect(tested.status, tested.said).toBe(0);
});

test('the queries of the dashboard are valid', () => {
  interface Panel {
    readonly targets: readonly { readonly expr: string }[];
  }
  const { panels } = JSON.parse(readFileSync(join(deploy, 'grafana-dashboard.json'), 'utf8')) as {
    panels: Panel[];
  };
  const rules = panels
    .flatMap(({ targets }) => targets)
    .map(({ expr }, index) => `  - {record: "q:${index}", expr: ${JSON.stringify(expr)}}`);
  const file = join(work, 'queries.yml');
  writeFileSync(file, `groups:\n- name: g\n  rules:\n${rules.join('\n')}\n`);
  const { status, said } = promtool('', 'check', 'rules', file);
  expect(status, said).toBe(0);
});
