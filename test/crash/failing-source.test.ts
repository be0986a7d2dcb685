import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { expectFailure, Operator, type ShownJob, until } from '../support/operator.ts';
import { contentOf } from '../support/repository-content.ts';

const MIB = 1024 * 1024;

describe('a source that fails', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-source-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = (name: string) => join(work, name);
  const slow = new FuseSource(disk('slow'), disk('slow.shown'), { bytesPerSecond: 12 * MIB });
  const badByte = 5 * MIB + 40_960;
  const bad = new FuseSource(disk('bad'), disk('bad.shown'), { badByte });
  const repository = join(appliance.home, 'backups');

  beforeAll(async () => {
    for (const name of ['slow', 'bad']) writeFileSync(disk(name), bytesOf(name, 12 * MIB));
    writeFileSync(disk('raw'), bytesOf('raw', 4 * MIB));
    await slow.start();
    await appliance.start();
    appliance.json('vm', 'add', 'm', '--disk', slow.path, '--disk', disk('raw'));
    operator.backUp('m', 'full');
  });
  afterEach(() => slow.resume());
  afterAll(async () => {
    await appliance.dispose();
    await slow.stop();
    await bad.stop();
    rmSync(work, { recursive: true, force: true });
  });

  /** Does something to the sources while the first disk is half read. */
  const failMidway = async (act: () => Promise<void> | void) => {
    const before = contentOf(repository);
    const started = appliance.json<ShownJob>('backup', 'start', '--vm', 'm', '--type', 'full');
    await until('bytes flow', () => operator.job(started.job_id).progress.processed_bytes >= 2 * MIB);
    slow.pause();
    await act();
    slow.resume();
    const result = appliance.ctl('job', 'watch', started.job_id);
    expect(contentOf(repository)).toEqual(before);
    expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
    return { result, job: operator.job(started.job_id) };
  };
  const expectNextWorks = () => {
    const { backup_id, disks } = operator.backUp('m');
    expect(disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
    operator.expectRestored(backup_id, 0, disk('slow'));
    operator.expectRestored(backup_id, 1, disk('raw'));
  };

  it('with an I/O error names the place', async () => {
    copyFileSync(disk('bad'), disk('bad.shown'));
    appliance.json('vm', 'add', 'b', '--disk', bad.path);
    const good = operator.backUp('b', 'full');
    const before = contentOf(repository);
    await bad.start();
    const result = appliance.ctl('backup', 'start', '--vm', 'b', '--wait');
    expectFailure(result, 'SOURCE_READ_FAILED', 21);
    const offset = Number(/at byte (\d+)/.exec(result.stderr)?.[1]);
    expect(offset).toBeLessThanOrEqual(badByte);
    expect(offset).toBeGreaterThan(badByte - MIB);
    expect(result.stderr).toContain('EIO');
    expect(contentOf(repository)).toEqual(before);
    await bad.stop();
    copyFileSync(disk('bad'), disk('bad.shown'));
    expect(operator.backUp('b').disks[0]?.backup_type).toBe('incremental');
    operator.expectRestored(good.backup_id, 0, disk('bad'));
  });

  it('by being gone from the start is named', () => {
    renameSync(disk('raw'), disk('raw.away'));
    expectFailure(appliance.ctl('backup', 'start', '--vm', 'm', '--wait'), 'SOURCE_MISSING', 21);
    renameSync(disk('raw.away'), disk('raw'));
  });

  it('by vanishing during the backup leaves nothing', async () => {
    const { result } = await failMidway(() => renameSync(disk('raw'), disk('raw.away')));
    expectFailure(result, 'SOURCE_MISSING', 21);
    renameSync(disk('raw.away'), disk('raw'));
  });

  it('by being cut short during the backup leaves nothing', async () => {
    const { result } = await failMidway(() => truncateSync(disk('raw'), MIB));
    expectFailure(result, 'SOURCE_CHANGED_SIZE', 21);
    writeFileSync(disk('raw'), bytesOf('raw', 4 * MIB));
  });

  it('by dying while it is read leaves nothing', async () => {
    const { result, job: ended } = await failMidway(() => slow.stop());
    expectFailure(result, 'SOURCE_READ_FAILED', 21);
    expect(Number(ended.error?.fields['offset'])).toBeGreaterThan(0);
    await slow.start();
    expectNextWorks();
  });
});
