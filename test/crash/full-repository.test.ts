import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { expectFailure, Operator } from '../support/operator.ts';
import { contentOf } from '../support/repository-content.ts';

const MIB = 1024 * 1024;

describe.each(['nbd-server', 'storage-daemon'])('a repository that fills up through %s', (backend) => {
  const work = mkdtempSync(join(tmpdir(), 'sd-full-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = join(work, 'disk');
  const folder = new LoopFolder(join(work, 'mnt'), 64, '-m', '0', '-O', '^has_journal');
  const root = folder.path;

  beforeAll(async () => {
    folder.mount();
    await appliance.start([`exports.backend=${backend}`, 'repository.reserve_bytes=0']);
    appliance.json('repository', 'add', 'small', '--path', join(root, 'backups'));
    writeFileSync(disk, bytesOf('disk', 10 * MIB));
    appliance.json('vm', 'add', 'm', '--disk', disk);
  });
  afterAll(async () => {
    await appliance.dispose();
    folder.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('fails with its code, keeps what is older, and works again once there is room', () => {
    const first = operator.backUp('m', 'full', '--repository', 'small').backup_id;
    copyFileSync(disk, `${disk}.first`);
    const before = contentOf(join(root, 'backups'));
    writeFileSync(disk, bytesOf('disk', 90 * MIB));
    expectFailure(
      appliance.ctl('backup', 'start', '--vm', 'm', '--repository', 'small', '--wait'),
      'REPOSITORY_FULL',
      21,
    );
    expect(contentOf(join(root, 'backups'))).toEqual(before);
    operator.expectRestored(first, 0, `${disk}.first`);
    truncateSync(disk, 12 * MIB);
    const next = operator.backUp('m', 'incremental', '--repository', 'small');
    expect(next.disks[0]?.backup_type).toBe('incremental');
    operator.expectRestored(next.backup_id, 0, disk);
  });

  it('says so as well when not even the first block fits', () => {
    const before = contentOf(join(root, 'backups'));
    const filler = join(root, 'filler');
    const zeros = Buffer.alloc(65_536);
    const file = openSync(filler, 'w');
    try {
      for (;;) writeSync(file, zeros);
    } catch {
      // full to the last block
    } finally {
      closeSync(file);
    }
    const result = appliance.ctl(
      'backup',
      'start',
      '--vm',
      'm',
      '--type',
      'full',
      '--repository',
      'small',
      '--wait',
    );
    expect(result.stderr).toMatch(/\((REPOSITORY_FULL|DISK_FULL)\)/);
    expect(result.code).toBe(21);
    rmSync(filler);
    expect(contentOf(join(root, 'backups'))).toEqual(before);
    operator.expectRestored(operator.backUp('m', 'incremental', '--repository', 'small').backup_id, 0, disk);
  });
});
