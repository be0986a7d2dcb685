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
      expectFailure(finish(job_id), 'MOVER_DIED', 21);
      expectNothingNew();
      expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
    });

    it('leaves nothing when the job is cancelled', async () => {
      const { job_id, backup_id } = await stopMidway();
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
      expectFailure(finish(job_id), 'CANCELLED', 130);
      expect(appliance.json<Shown>('backup', 'show', backup_id).status).toBe('cancelled');
      expect(appliance.processes('sendense-mover')).toEqual([]);
      expectNothingNew();
      expectFailure(appliance.ctl('job', 'cancel', job_id), 'JOB_FINISHED', 13);
    });

    it.runIf(backend === 'storage-daemon')('does not hold up a cancel while the source hangs', async () => {
      const { job_id, backup_id } = await stopMidway();
      expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
      // the source stands still, and a process that reads from it cannot be killed
      expectFailure(appliance.ctl('job', 'watch', job_id), 'CANCELLED', 130);
      expect(appliance.json<Shown>('backup', 'show', backup_id).status).toBe('cancelled');
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

describe.each(['nbd-server', 'storage-daemon'])('a repository that fills up through %s', (backend) => {
  const work = mkdtempSync(join(tmpdir(), 'sd-full-'));
  const appliance = new TestAppliance();
  const { backUp, expectRestored } = commands(appliance);
  const disk = join(work, 'disk');
  const root = join(work, 'mnt');

  beforeAll(async () => {
    writeFileSync(join(work, 'fs'), '');
    truncateSync(join(work, 'fs'), 64 * MIB);
    sh('mkfs.ext4', '-q', '-F', '-m', '0', '-O', '^has_journal', join(work, 'fs'));
    mkdirSync(root);
    sh('mount', '-o', 'loop', join(work, 'fs'), root);
    await appliance.start([`exports.backend=${backend}`, 'repository.reserve_bytes=0']);
    appliance.json('repository', 'add', 'small', '--path', join(root, 'backups'));
    writeFileSync(disk, bytesOf('disk', 10 * MIB));
    appliance.json('vm', 'add', 'm', '--disk', disk);
  });
  afterAll(async () => {
    await appliance.dispose();
    try {
      sh('umount', root);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });

  it('fails with its code, keeps what is older, and works again once there is room', () => {
    const first = backUp('m', 'full', '--repository', 'small').backup_id;
    copyFileSync(disk, `${disk}.first`);
    const before = contentOf(join(root, 'backups'));
    writeFileSync(disk, bytesOf('disk', 90 * MIB));
    expectFailure(
      appliance.ctl('backup', 'start', '--vm', 'm', '--repository', 'small', '--wait'),
      'REPOSITORY_FULL',
      21,
    );
    expect(contentOf(join(root, 'backups'))).toEqual(before);
    expectRestored(first, 0, `${disk}.first`);
    truncateSync(disk, 12 * MIB);
    const next = backUp('m', 'incremental', '--repository', 'small');
    expect(next.disks[0]?.backup_type).toBe('incremental');
    expectRestored(next.backup_id, 0, disk);
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
    expectRestored(backUp('m', 'incremental', '--repository', 'small').backup_id, 0, disk);
  });
});

describe('a source that fails', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-source-'));
  const appliance = new TestAppliance();
  const { backUp, job, expectRestored } = commands(appliance);
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
    backUp('m', 'full');
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
    const started = appliance.json<Job>('backup', 'start', '--vm', 'm', '--type', 'full');
    await until('bytes flow', () => job(started.job_id).progress.processed_bytes >= 2 * MIB);
    slow.pause();
    await act();
    slow.resume();
    const result = appliance.ctl('job', 'watch', started.job_id);
    expect(contentOf(repository)).toEqual(before);
    expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
    return { result, job: job(started.job_id) };
  };
  const expectNextWorks = () => {
    const { backup_id, disks } = backUp('m');
    expect(disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
    expectRestored(backup_id, 0, disk('slow'));
    expectRestored(backup_id, 1, disk('raw'));
  };

  it('with an I/O error names the place', async () => {
    copyFileSync(disk('bad'), disk('bad.shown'));
    appliance.json('vm', 'add', 'b', '--disk', bad.path);
    const good = backUp('b', 'full');
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
    expect(backUp('b').disks[0]?.backup_type).toBe('incremental');
    expectRestored(good.backup_id, 0, disk('bad'));
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

describe('a layer that somebody harmed', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-harm-'));
  const appliance = new TestAppliance();
  const { backUp, expectRestored, events } = commands(appliance);
  const disk = (name: string) => join(work, name);

  beforeAll(async () => {
    writeFileSync(disk('a'), bytesOf('a', 3 * MIB));
    writeFileSync(disk('b'), bytesOf('b', 2 * MIB));
    await appliance.start(['exports.backend=storage-daemon']);
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  const header = (path: string, ...create: string[]) => {
    const crafted = disk('crafted');
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...create, crafted, '3M');
    const bytes = readFileSync(crafted).subarray(0, 65_536);
    const file = openSync(path, 'r+');
    writeSync(file, bytes, 0, bytes.length, 0);
    closeSync(file);
    rmSync(crafted);
  };
  it.each<[string, (path: string) => void]>([
    ['deleted', (path) => rmSync(path)],
    ['cut short', (path) => truncateSync(path, Math.floor(statSync(path).size / 2))],
    [
      'changed by one bit under its old time',
      (path) => {
        const { atime, mtime } = statSync(path);
        const [extent] = JSON.parse(sh('qemu-img', 'map', '--output=json', path)) as { offset: number }[];
        const byte = Buffer.alloc(1);
        const file = openSync(path, 'r+');
        readSync(file, byte, 0, 1, (extent?.offset ?? 0) + 1000);
        writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, (extent?.offset ?? 0) + 1000);
        closeSync(file);
        utimesSync(path, atime, mtime);
      },
    ],
    ['given the backing file /etc/shadow', (path) => header(path, '-u', '-b', '/etc/shadow', '-F', 'raw')],
    ['given an external data file', (path) => header(path, '-o', `data_file=${disk('outside')}`)],
  ])('by it being %s makes only that disk full', (_how, harm) => {
    const parent = backUp('m', 'full');
    const layer = sh(
      'find',
      join(appliance.home, 'backups'),
      '-path',
      `*/disk-0/${parent.disks[0]?.layer}`,
    ).trim();
    harm(layer);
    // the harmed block changes, so it is compared with its parent
    for (const name of ['a', 'b'])
      writeFileSync(disk(name), bytesOf(`${name}${parent.backup_id}`, 4096), { flag: 'r+' });
    const next = backUp('m');
    expect(next.disks.map((entry) => entry.backup_type)).toEqual(['full', 'incremental']);
    expect(next.disks[0]?.reason).toContain('the chain is damaged');
    const shown = appliance.json<Shown>('backup', 'show', parent.backup_id);
    expect(shown.damaged).toBe(true);
    expect(shown.disks.map((entry) => entry.damage === null)).toEqual([false, true]);
    expect(events('chain.damaged')[0]?.data).toMatchObject({ disk_index: 0, backups: [parent.backup_id] });
    for (const [index, name] of ['a', 'b'].entries()) expectRestored(next.backup_id, index, disk(name));
    expect(backUp('m').disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
  });

  it('is all known again after the catalogue was lost', async () => {
    const list = () =>
      appliance.json<{ backups: Shown[] }>('backup', 'list', '--status', 'completed').backups;
    const before = list();
    await appliance.stop();
    for (const name of readdirSync(join(appliance.home, 'state')).filter((file) =>
      file.startsWith('catalog.db'),
    ))
      rmSync(join(appliance.home, 'state', name));
    await appliance.start(['exports.backend=storage-daemon']);
    expect(list().map((backup) => backup.backup_id)).toEqual(before.map((backup) => backup.backup_id));
    for (const [index, name] of ['a', 'b'].entries())
      expectRestored(before[0]?.backup_id ?? '', index, disk(name));
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
    expect(backUp('m').disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
  });
});
