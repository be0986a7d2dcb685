import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type CtlResult, TestAppliance } from '../support/appliance.ts';
import { FuseSource } from '../support/fuse-source.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;
const SLOW_BYTES = 24 * MIB;

interface Shown {
  backup_id: string;
  status: string;
  damaged: boolean;
  disks: {
    disk_id: number;
    backup_type: string;
    reason: string | null;
    layer: string;
    damage: string | null;
  }[];
}
interface Job {
  job_id: string;
  backup_id: string;
  status: string;
  warnings: string[];
  progress: { processed_bytes: number };
  error: { code: string; fields: Record<string, unknown> } | null;
}
interface Event {
  kind: string;
  severity: string;
  message: string;
  data: { backups?: string[]; disk_index?: number };
}

/** Path → content of every file of a repository but the machine's description, which each attempt may renew. */
function contentOf(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => statSync(join(folder, name)).isFile() && !name.endsWith('vm.json'));
  return Object.fromEntries(
    files.toSorted().map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ]),
  );
}

const commands = (appliance: TestAppliance) => {
  const backUp = (vm: string, type = 'incremental', ...more: string[]) =>
    appliance.json<Shown>('backup', 'start', '--vm', vm, '--type', type, '--wait', ...more);
  const job = (id: string) => JSON.parse(appliance.rest('GET', `/api/v1/jobs/${id}`).body) as Job;
  return {
    backUp,
    job,
    events: (kind: string) =>
      appliance.json<{ events: Event[] }>('events').events.filter((event) => event.kind === kind),
    lastJob: () => appliance.json<{ jobs: Job[] }>('job', 'list').jobs[0],
    /** The disk of this restore point is the file, bit for bit. */
    expectRestored: (backupId: string, index: number, original: string) => {
      const output = `${original}.restored`;
      appliance.json(
        'restore',
        'disk',
        '--backup-id',
        backupId,
        '--disk',
        String(index),
        '--output',
        output,
        '--force',
      );
      sh('cmp', output, original);
      rmSync(output);
    },
  };
};

/** What a failed command must say: the code on stderr. */
function expectFailure(result: CtlResult, code: string, exit: number): void {
  expect(result.stderr).toContain(`(${code})`);
  expect(result.code).toBe(exit);
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`it never came that ${what}`);
    await sleep(20);
  }
}

describe.each(['nbd-server', 'storage-daemon'])(
  'a process that dies in the middle of a transfer through %s',
  (backend) => {
    const work = mkdtempSync(join(tmpdir(), 'sd-fault-'));
    const appliance = new TestAppliance();
    const { backUp, job, expectRestored, events } = commands(appliance);
    const disk = (name: string) => join(work, name);
    const slow = new FuseSource(disk('slow'), disk('slow.shown'), { bytesPerSecond: 12 * MIB });
    const repository = join(appliance.home, 'backups');
    let first = '';
    let before: Record<string, string> = {};

    /** Starts a full whose source stands still when some, but not all of it was sent. */
    const stopMidway = async (): Promise<Job> => {
      before = contentOf(repository);
      const started = appliance.json<Job>('backup', 'start', '--vm', 'm', '--type', 'full');
      await until('bytes flow', () => job(started.job_id).progress.processed_bytes >= 2 * MIB);
      slow.pause();
      const midway = job(started.job_id);
      expect(midway.status).toBe('running');
      expect(midway.progress.processed_bytes).toBeLessThan(SLOW_BYTES);
      return midway;
    };
    const finish = (id: string) => {
      slow.resume();
      return appliance.ctl('job', 'watch', id);
    };
    const expectWhole = (id: string) => {
      expectRestored(id, 0, disk('slow'));
      expectRestored(id, 1, disk('small'));
    };
    const expectEarlierUntouched = () => expect(contentOf(repository)).toMatchObject(before);
    const expectNothingNew = () => expect(contentOf(repository)).toEqual(before);

    beforeAll(async () => {
      writeFileSync(disk('slow'), bytesOf('slow', SLOW_BYTES));
      writeFileSync(disk('small'), bytesOf('small', 2 * MIB + 512));
      await slow.start();
      await appliance.start([`exports.backend=${backend}`]);
      appliance.json('vm', 'add', 'm', '--disk', slow.path, '--disk', disk('small'));
      first = backUp('m', 'full').backup_id;
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
      expect(job(job_id).warnings.join()).toContain('was lost 1 times');
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
      expect(job(job_id).warnings).toEqual([]);
      await until('the loss is told', () => events('nbd_server.parent_died').length > 0);
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
        expect(job(job_id).warnings.join()).toContain('was lost 1 times');
        expectWhole(backup_id);
        expectEarlierUntouched();
        appliance.json('backup', 'delete', backup_id);
      },
    );

    it.runIf(backend === 'nbd-server')('is not needed to survive a broken file in conf.d', () => {
      const folder = join(appliance.home, 'run', 'nbd', 'conf.d');
      writeFileSync(join(folder, 'zzz.conf'), 'this = is\nno [configuration\n');
      const { backup_id } = backUp('m', 'incremental');
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
      expectFailure(finish(job_id), 'INTERNAL', 1);
      expectNothingNew();
      expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
    });

    it('leaves nothing when the job is cancelled, even while the source hangs', async () => {
      const { job_id, backup_id } = await stopMidway();
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
      // the source still stands still: the end must not wait for it
      expectFailure(appliance.ctl('job', 'watch', job_id), 'CANCELLED', 130);
      expect(appliance.json<Shown>('backup', 'show', backup_id).status).toBe('cancelled');
      expect(appliance.processes('sendense-mover')).toEqual([]);
      expectNothingNew();
      expectFailure(appliance.ctl('job', 'cancel', job_id), 'JOB_FINISHED', 13);
    });

    it('loses nothing older when it is the daemon', async () => {
      const { job_id } = await stopMidway();
      await appliance.kill();
      slow.resume();
      await appliance.start([`exports.backend=${backend}`]);
      expect(job(job_id)).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
      expect(appliance.processes('sendense-mover')).toEqual([]);
      expectNothingNew();
    });

    it('does not keep the next backup from being an ordinary incremental', async () => {
      const next = backUp('m', 'incremental');
      expect(next.disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
      expectWhole(next.backup_id);
      expectWhole(first);
      await appliance.stop();
      expect(appliance.leftovers()).toEqual([]);
    });
  },
);
