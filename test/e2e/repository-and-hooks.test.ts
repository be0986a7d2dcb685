import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, makePlainDisk } from '../support/guest-disk.ts';
import { LoopFolder } from '../support/loop-folder.ts';
import { Operator } from '../support/operator.ts';

describe('what surrounds a backup', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-around-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = join(work, 'a');
  const usb = new LoopFolder(join(work, 'usb'), 128);

  beforeAll(async () => {
    writeFileSync(disk, bytesOf('a', 2 * 1024 * 1024));
    await appliance.start(['jobs.hook_timeout_s=1', 'repository.reserve_bytes=1000000']);
    appliance.json('vm', 'add', 'm', '--disk', disk);
  });
  afterAll(async () => {
    await appliance.dispose();
    usb.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('writes nothing below a repository that is not mounted, running or restarted', async () => {
    usb.mount();
    appliance.json('repository', 'add', 'usb', '--path', usb.path);
    const first = operator.backUp('m', 'full', '--repository', 'usb');
    usb.vanish();
    for (const restart of [false, true]) {
      if (restart) {
        await appliance.stop();
        await appliance.start();
      }
      const refused = appliance.ctl('backup', 'start', '--vm', 'm', '--repository', 'usb', '--wait');
      expect(refused.code, refused.stderr).not.toBe(0);
      expect(readdirSync(usb.path)).toEqual([]);
      expect(
        appliance.ctl('restore', 'disk', '--backup-id', first.backup_id, '--output', join(work, 'out'))
          .stderr,
      ).toContain('REPOSITORY_UNAVAILABLE');
    }
    usb.mount();
    await appliance.stop();
    await appliance.start(['jobs.hook_timeout_s=1', 'repository.reserve_bytes=1000000']);
    const next = operator.backUp('m', 'incremental', '--repository', 'usb');
    expect(next.disks[0]?.backup_type).toBe('incremental');
    await appliance.stop();
    usb.vanish();
    await appliance.start(['jobs.hook_timeout_s=1']);
  });

  it('forgets a repository and leaves its files, until it is added again', () => {
    const path = join(work, 'second');
    const fs = join(work, 'fs');
    makePlainDisk(fs, 16);
    appliance.json('vm', 'add', 'f', '--disk', fs);
    const remove = (...args: string[]) => appliance.ctl('repository', 'remove', ...args);
    const listed = () => operator.backups().filter((backup) => backup.repository === 'second');
    const backUp = () => operator.backUp('f', 'incremental', '--repository', 'second');
    const added = appliance.json<{ available_bytes: number }>('repository', 'add', 'second', '--path', path);
    expect(added.available_bytes).toBeGreaterThan(0);
    const ids = [backUp(), backUp()].map((backup) => backup.backup_id).toReversed();
    const files = readdirSync(path, { recursive: true });

    expect(remove('nowhere').code).toBe(10);
    const local = remove('local', '--keep-backups');
    expect([local.code, local.stderr]).toEqual([13, expect.stringContaining('(REPOSITORY_BUILT_IN)')]);
    const kept = remove('second');
    expect([kept.code, kept.stderr]).toEqual([13, expect.stringContaining('holds 2 backups')]);
    const { mount_id } = appliance.json<{ mount_id: string }>('backup', 'mount', '--backup-id', ids[0] ?? '');
    expect(remove('second', '--keep-backups').stderr).toContain('(REPOSITORY_BUSY)');
    appliance.ctl('mount', 'remove', mount_id);
    expect(listed().map((backup) => backup.backup_id)).toEqual(ids);

    expect(appliance.json('repository', 'remove', 'second', '--keep-backups')).toEqual({
      ...{ name: 'second', path, backups: 2, removed: true },
    });
    expect(operator.backups().filter((backup) => ids.includes(backup.backup_id))).toEqual([]);
    expect(appliance.ctl('backup', 'show', ids[0] ?? '').code).toBe(10);
    expect(appliance.ctl('backup', 'chain', '--vm', 'f').stdout).not.toContain(ids[0]);
    expect(readdirSync(path, { recursive: true })).toEqual(files);

    appliance.json('repository', 'add', 'second', '--path', path);
    expect(listed().map((backup) => backup.backup_id)).toEqual(ids);
    operator.expectRestored(ids[0] ?? '', 0, fs);
    expect(backUp().disks[0]?.backup_type).toBe('incremental');
  });

  it('ends a hook with all its children at the time limit, and runs the other one', () => {
    const marker = join(work, 'thawed');
    appliance.json('vm', 'set', 'm', '--before', 'sleep 60; true', '--after', `touch ${marker}`);
    const started = Date.now();
    const failed = appliance.ctl('backup', 'start', '--vm', 'm', '--wait');
    expect(failed.stderr).toContain('HOOK_FAILED');
    expect(Date.now() - started).toBeLessThan(30_000);
    expect(readdirSync(work)).toContain('thawed');
    appliance.json('vm', 'set', 'm', '--before', '', '--after', 'exit 3');
    const warned = appliance.ctl('backup', 'start', '--vm', 'm', '--wait');
    expect(warned.code).toBe(0);
    expect(warned.stderr).toContain('warning:');
  });
});
