import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { Operator } from '../support/operator.ts';
import { RandomDisk } from '../support/random-disk.ts';

const settings = ['exports.backend=storage-daemon', 'verify.scrub_percent_per_day=0'];
const work = mkdtempSync(join(tmpdir(), 'sd-labels-'));
const second = join(work, 'second');
const appliance = new TestAppliance();
const operator = new Operator(appliance);
const disks = ['web1', 'scratch', 'old'].map((name) => new RandomDisk(join(work, name), 4, name.length));

interface Machine {
  vm_uuid: string;
  registered: boolean;
  labels: Record<string, string>;
  unprotected: string | null;
}
const show = (name: string, of = appliance): Machine => of.json<Machine>('vm', 'show', name);
const documents = (): string[] =>
  readdirSync(join(appliance.home, 'backups'))
    .map((name) => join(appliance.home, 'backups', name, 'vm.json'))
    .filter((path) => /[0-9a-f-]{36}\/vm\.json$/.test(path));
const documentOf = (name: string) =>
  documents()
    .map((path) => ({ path, content: JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown> }))
    .find(({ content }) => content['vm_name'] === name);
const loseCatalogue = () => {
  for (const name of readdirSync(join(appliance.home, 'state')).filter((one) => one.startsWith('catalog')))
    rmSync(join(appliance.home, 'state', name));
};

beforeAll(async () => {
  await appliance.start(settings);
  appliance.json('repository', 'add', 'second', '--path', second);
  for (const disk of disks)
    appliance.json('vm', 'add', disk.path.split('/').at(-1) ?? '', '--disk', disk.path);
  for (const name of ['web1', 'scratch', 'old']) operator.backUp(name, 'full');
  operator.backUp('web1', 'full', '--repository', 'second');
}, 60_000);
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('are written when they change, without a backup, wherever the machine has restore points', () => {
  appliance.json('vm', 'set', 'web1', '--label', 'tier=gold', '--label', 'site=berlin');
  appliance.json('vm', 'set', 'scratch', '--unprotected', 'made anew by a script');
  expect(documentOf('web1')?.content).toMatchObject({ format: 1, labels: { tier: 'gold', site: 'berlin' } });
  expect(documentOf('scratch')?.content).toMatchObject({ unprotected: 'made anew by a script' });
  const there = JSON.parse(readFileSync(join(second, show('web1').vm_uuid, 'vm.json'), 'utf8')) as object;
  expect(there).toMatchObject({ labels: { tier: 'gold', site: 'berlin' } });
  // and so are they at a backup, and nothing that could be run
  disks[0]?.write(1);
  operator.backUp('web1');
  expect(documentOf('web1')?.content).toMatchObject({ labels: { tier: 'gold', site: 'berlin' } });
  expect(JSON.stringify(documentOf('web1')?.content)).not.toContain('command');
});

it('of two repositories the newest counts, since one may have been away', async () => {
  await appliance.stop();
  renameSync(second, `${second}.away`);
  await appliance.start(settings);
  appliance.json('vm', 'set', 'web1', '--label', 'tier=silver');
  expect(operator.events('machine.labels_not_kept')[0]).toMatchObject({
    severity: 'warning',
    message: expect.stringContaining('second'),
  });
  await appliance.stop();
  renameSync(`${second}.away`, second);
  // whichever is read first
  for (const [first, next] of [
    [second, join(appliance.home, 'backups')],
    [join(appliance.home, 'backups'), second],
  ]) {
    const home = mkdtempSync(join(work, 'home-'));
    const other = new TestAppliance(home, join(work, 'other.log'));
    try {
      await other.start(settings);
      for (const [name, path] of [
        ['a', first],
        ['b', next],
      ]) {
        cpSync(path ?? '', join(home, `copy-${name}`), { recursive: true });
        other.json('repository', 'add', name ?? '', '--path', join(home, `copy-${name}`));
      }
      expect(show('web1', other).labels).toEqual({ tier: 'silver', site: 'berlin' });
    } finally {
      await other.stop();
    }
  }
  await appliance.start(settings);
});

it('come back with the machine when the home is lost, and policies choose it again', async () => {
  await appliance.stop();
  loseCatalogue();
  await appliance.start(settings);
  expect(show('web1')).toMatchObject({ registered: false, labels: { tier: 'silver', site: 'berlin' } });
  expect(show('scratch')).toMatchObject({ unprotected: 'made anew by a script' });
  appliance.json('policy', 'add', 'silver', '--label', 'tier=silver');
  const chosen = () => appliance.json<{ machines: string[] }>('policy', 'preview', 'silver').machines;
  // what came out of a repository does nothing by itself
  expect(chosen()).toEqual([]);
  const added = appliance.ctl('vm', 'add', 'web1', '--disk', disks[0]?.path ?? '');
  expect(added.stderr).toContain('Known from its backups: tier=silver site=berlin');
  for (const disk of disks.slice(1, 2))
    appliance.json('vm', 'add', disk.path.split('/').at(-1) ?? '', '--disk', disk.path);
  expect(chosen()).toEqual(['web1']);
  expect(appliance.ctl('status', '--all').stdout).toMatch(/scratch +excused +made anew by a script/);
});

it('are not needed: a document of before, and one with nonsense in it, lose no restore point', async () => {
  await appliance.stop();
  const before = documentOf('old');
  const { labels: _labels, unprotected: _unprotected, written_at: _at, ...old } = before?.content ?? {};
  writeFileSync(before?.path ?? '', JSON.stringify(old));
  const harmed = documentOf('scratch');
  const nonsense = { labels: { 'NOT A KEY': 7 }, unprotected: ['x'], written_at: 'yesterday' };
  writeFileSync(harmed?.path ?? '', JSON.stringify({ ...harmed?.content, ...nonsense }));
  loseCatalogue();
  await appliance.start(settings);
  for (const name of ['old', 'scratch']) {
    expect(show(name)).toMatchObject({ labels: {}, unprotected: null });
    expect(operator.backups('--vm', name)).toHaveLength(1);
  }
  const [kept] = operator.backups('--vm', 'old');
  operator.expectRestored(kept?.backup_id ?? '', 0, disks[2]?.path ?? '');
});
