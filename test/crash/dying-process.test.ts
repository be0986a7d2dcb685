import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf } from '../support/guest-disk.ts';
import { expectFailure, Operator, type ShownBackup, type ShownJob, until } from '../support/operator.ts';
import { contentOf } from '../support/repository-content.ts';

const MIB = 1024 * 1024;
const SLOW_BYTES = 24 * MIB;

describe.each(['nbd-server', 'storage-daemon'])(
  'a process that dies in the middle of a transfer through %s',
  (backend) => {
    const work = mkdtempSync(join(tmpdir(), 'sd-fault-'));
    const appliance = new TestAppliance();
    const operator = new Operator(appliance);
    const disk = (name: string) => join(work, name);
    const slow = new FuseSource(disk('slow'), disk('slow.shown'), { bytesPerSecond: 12 * MIB });
    const repository = join(appliance.home, 'backups');
    let first = '';
    let before: Record<string, string> = {};

    /** Starts a full whose source stands still when some, but not all of it was sent. */
    const stopMidway = async (): Promise<ShownJob> => {
      before = contentOf(repository);
      const started = appliance.json<ShownJob>('backup', 'start', '--vm', 'm', '--type', 'full');
      await until('bytes flow', () => operator.job(started.job_id).progress.processed_bytes >= 2 * MIB);
      slow.pause();
      const midway = operator.job(started.job_id);
      expect(midway.status).toBe('running');
      expect(midway.progress.processed_bytes).toBeLessThan(SLOW_BYTES);
      return midway;
    };
    const finish = (id: string) => {
      slow.resume();
      return appliance.ctl('job', 'watch', id);
    };
    const expectWhole = (id: string) => {
      operator.expectRestored(id, 0, disk('slow'));
      operator.expectRestored(id, 1, disk('small'));
    };
    const expectEarlierUntouched = () => expect(contentOf(repository)).toMatchObject(before);
    const expectNothingNew = () => expect(contentOf(repository)).toEqual(before);

    beforeAll(async () => {
      writeFileSync(disk('slow'), bytesOf('slow', SLOW_BYTES));
      writeFileSync(disk('small'), bytesOf('small', 2 * MIB + 512));
      await slow.start();
      await appliance.start([`exports.backend=${backend}`]);
      appliance.json('vm', 'add', 'm', '--disk', slow.path, '--disk', disk('small'));
      first = operator.backUp('m', 'full').backup_id;
      expectWhole(first);
    });
    afterEach(() => slow.resume());
    afterAll(async () => {
      await appliance.dispose();
      await slow.stop();
      rmSync(work, { recursive: true, force: true });
    });

    it('is replaced when it is qemu-storage-daemon, and what was not flushed is sent again', async () => {
      const { job_id, backup_id } = await stopMidway();
      const pids = appliance.processes('qemu-storage-daemon');
      expect(pids).toHaveLength(1);
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      expect(finish(job_id)).toMatchObject({ code: 0 });
      expect(operator.job(job_id).warnings.join()).toContain('was lost 1 times');
      expectEarlierUntouched();
      expectWhole(backup_id);
      // what cannot be flushed must also not be left
      expect(
        readdirSync(repository, { recursive: true }).filter((name) =>
          /partial|written|tmp/.test(String(name)),
        ),
      ).toEqual([]);
      appliance.json('backup', 'delete', backup_id);
    });

    it.runIf(backend === 'nbd-server')('is no matter when it is the parent of nbd-server', async () => {
      const { job_id, backup_id } = await stopMidway();
      const parent = Number(readFileSync(join(appliance.home, 'run', 'nbd', 'nbd-server.pid'), 'utf8'));
      expect(appliance.processes('nbd-server')).toContain(parent);
      process.kill(parent, 'SIGKILL');
      expect(finish(job_id)).toMatchObject({ code: 0 });
      // its child went on: not even a reconnect
      expect(operator.job(job_id).warnings).toEqual([]);
      await until('the loss is told', () => operator.events('nbd_server.parent_died').length > 0);
      expectWhole(backup_id);
      expectEarlierUntouched();
      appliance.json('backup', 'delete', backup_id);
    });

    it.runIf(backend === 'nbd-server')(
      'is replaced when it is nbd-server with all its children',
      async () => {
        const { job_id, backup_id } = await stopMidway();
        const pids = appliance.processes('nbd-server');
        expect(pids.length).toBeGreaterThan(1);
        for (const pid of pids) process.kill(pid, 'SIGKILL');
        expect(finish(job_id)).toMatchObject({ code: 0 });
        expect(operator.job(job_id).warnings.join()).toContain('was lost 1 times');
        expectWhole(backup_id);
        expectEarlierUntouched();
        appliance.json('backup', 'delete', backup_id);
      },
    );

    it.runIf(backend === 'nbd-server')('is not needed to survive a broken file in conf.d', () => {
      const folder = join(appliance.home, 'run', 'nbd', 'conf.d');
      writeFileSync(join(folder, 'zzz.conf'), 'this = is\nno [configuration\n');
      const { backup_id } = operator.backUp('m', 'incremental');
      expect(readdirSync(folder)).not.toContain('zzz.conf');
      expect(readdirSync(folder)).toContain('zzz.conf.broken');
      expectWhole(backup_id);
      appliance.json('backup', 'delete', backup_id);
    });

    it('fails the job cleanly when it is the mover', async () => {
      const { job_id } = await stopMidway();
      const pids = appliance.processes('sendense-mover');
      expect(pids).toHaveLength(1);
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      expectFailure(finish(job_id), 'MOVER_DIED', 21);
      expectNothingNew();
      expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
    });

    it('leaves nothing when the job is cancelled', async () => {
      const { job_id, backup_id } = await stopMidway();
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
      expectFailure(finish(job_id), 'CANCELLED', 130);
      expect(appliance.json<ShownBackup>('backup', 'show', backup_id).status).toBe('cancelled');
      expect(appliance.processes('sendense-mover')).toEqual([]);
      expectNothingNew();
      expectFailure(appliance.ctl('job', 'cancel', job_id), 'JOB_FINISHED', 13);
    });

    it.runIf(backend === 'storage-daemon')('does not hold up a cancel while the source hangs', async () => {
      const { job_id, backup_id } = await stopMidway();
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
      // the source stands still, and a process that reads from it cannot be killed
      expectFailure(appliance.ctl('job', 'watch', job_id), 'CANCELLED', 130);
      expect(appliance.json<ShownBackup>('backup', 'show', backup_id).status).toBe('cancelled');
      slow.resume();
      await until('the mover is gone', () => appliance.processes('sendense-mover').length === 0);
      expectNothingNew();
      expectFailure(appliance.ctl('job', 'cancel', job_id), 'JOB_FINISHED', 13);
    });

    it('loses nothing older when it is the daemon', async () => {
      const { job_id } = await stopMidway();
      await appliance.kill();
      slow.resume();
      await appliance.start([`exports.backend=${backend}`]);
      expect(operator.job(job_id)).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
      expect(appliance.processes('sendense-mover')).toEqual([]);
      expectNothingNew();
    });

    it('does not keep the next backup from being an ordinary incremental', async () => {
      const next = operator.backUp('m', 'incremental');
      expect(next.disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
      expectWhole(next.backup_id);
      expectWhole(first);
      await appliance.stop();
      expect(appliance.leftovers()).toEqual([]);
    });
  },
);
