import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { until } from '../support/operator.ts';
import { flip, placeOf, verifyTools } from '../support/verify-tools.ts';

const MIB = 1024 * 1024;

describe('the scrub', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-scrub-'));
  const appliance = new TestAppliance();
  const { backUp, show, events, find } = verifyTools(appliance);
  const disk = join(work, 'disk');
  const quick = [
    'exports.backend=storage-daemon',
    'verify.scrub_percent_per_day=100',
    'verify.scrub_interval_s=1',
  ];
  const health = () =>
    JSON.parse(appliance.rest('GET', '/api/v1/health').body) as {
      scrub: { state: string; percent_per_day: number; checked: number; bad: number };
    };
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('verifies what never was, once a round, and goes on after a restart', async () => {
    writeFileSync(disk, bytesOf('disk', 3 * MIB));
    await appliance.start(['exports.backend=storage-daemon']);
    expect(health().scrub).toMatchObject({ state: 'waiting', percent_per_day: 3, checked: 0 });
    appliance.json('vm', 'add', 'm', '--disk', disk);
    const ids = [backUp('m').backup_id];
    for (const round of [1, 2]) {
      writeFileSync(disk, bytesOf(`round ${round}`, 70_000), { flag: 'r+' });
      ids.push(backUp('m').backup_id);
    }
    await appliance.stop();
    await appliance.start(quick);
    await until('all are verified', () => ids.every((id) => show(id).verified_ok === true));
    expect(health().scrub).toMatchObject({ checked: 3, bad: 0 });
    const dates = () => ids.map((id) => show(id).verified_at);
    const before = dates();
    await appliance.stop();
    await appliance.start(quick);
    await sleep(2500);
    expect(dates()).toEqual(before);
    expect(health().scrub.checked).toBe(0);
    expect(
      appliance.json<{ jobs: { kind: string }[] }>('job', 'list').jobs.some(({ kind }) => kind === 'verify'),
    ).toBe(false);
  });

  it('finds a flipped bit by itself, and the next backup becomes a full', async () => {
    const point = backUp('m', 'full');
    const layer = find(point.disks[0]?.layer ?? '');
    flip(layer, placeOf(layer, 2 * MIB));
    // it may have been looked at already
    const isFound = () => show(point.backup_id).damaged;
    if (show(point.backup_id).verified_at === null) await until('it is found', isFound);
    else appliance.ctl('verify', 'backup', point.backup_id, '--wait');
    expect(isFound()).toBe(true);
    expect(events('verify.failed')[0]?.data).toMatchObject({ backup_id: point.backup_id, offset: 2 * MIB });
    expect(backUp('m').disks[0]?.backup_type).toBe('full');
  });

  it('is off when told so, and ends with the daemon', async () => {
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    await appliance.start(['verify.scrub_percent_per_day=0', 'verify.scrub_interval_s=1']);
    expect(health().scrub.state).toBe('off');
    expect(appliance.ctl('config', 'show').stdout).toContain('verify.scrub_mib_per_s');
  });
});
