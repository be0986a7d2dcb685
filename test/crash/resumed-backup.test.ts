import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { Operator, until } from '../support/operator.ts';
import { contentOf } from '../support/repository-content.ts';

const MIB = 1024 * 1024;

interface Started {
  readonly job_id: string;
  readonly backup_id: string;
}

/** Files of backups that are not complete. */
const halfDone = (appliance: TestAppliance): string[] =>
  readdirSync(join(appliance.home, 'backups'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.(partial|rows\.partial|written|journal|tmp)$/.test(name),
  );

const hasEnded = (operator: Operator, jobId: string) =>
  until('the job ended', () => !['pending', 'running'].includes(operator.job(jobId).status));

describe('a backup of images whose daemon dies', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-again-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = (name: string) => join(work, name);
  const change = (name: string, seed: string) => {
    const content = readFileSync(disk(name));
    bytesOf(seed, 200_000).copy(content, 1 * MIB);
    writeFileSync(disk(name), content);
  };

  beforeAll(async () => {
    writeFileSync(disk('a'), bytesOf('a', 4 * MIB));
    writeFileSync(disk('b.raw'), bytesOf('b', 3 * MIB));
    sh('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', disk('b.raw'), disk('b'));
    await appliance.start();
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
    operator.backUp('m', 'full');
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it.each([
    'intent:layer-created',
    'fact:carry-begun',
    'fact:export-opened',
    'fact:transferred',
    'fact:carried',
    'intent:layer-created:2',
    'fact:transferred:2',
  ])('at %s goes on when it is back', async (point) => {
    await appliance.stop();
    change('a', point);
    await appliance.start([], { SENDENSE_CRASH_AT: point });
    const lost = appliance.ctl('backup', 'start', '--vm', 'm', '--wait');
    expect(lost.stderr).toContain('sendense-ctl job watch');
    await appliance.ended();

    await appliance.start();
    const [job] = appliance.json<{ jobs: (Started & { status: string })[] }>('job', 'list').jobs;
    expect(appliance.ctl('job', 'watch', job?.job_id ?? '').code).toBe(0);
    const id = job?.backup_id ?? '';
    operator.expectRestored(id, 0, disk('a'));
    operator.expectRestored(id, 1, disk('b.raw'));
    expect(appliance.ctl('verify', 'backup', id, '--wait').code).toBe(0);
    expect(halfDone(appliance)).toEqual([]);
    expect(operator.backUp('m').disks.map(({ backup_type }) => backup_type)).toEqual([
      'incremental',
      'incremental',
    ]);
  });

  it('at sealing is cleaned up', async () => {
    await appliance.stop();
    await appliance.start([], { SENDENSE_CRASH_AT: 'intent:layer-sealed' });
    appliance.ctl('backup', 'start', '--vm', 'm', '--wait');
    await appliance.ended();
    await appliance.start();
    const [job] = appliance.json<{ jobs: { status: string }[] }>('job', 'list').jobs;
    expect(job).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
    expect(halfDone(appliance)).toEqual([]);
  });
});

describe.each(['nbd-server', 'storage-daemon'])('a transfer through %s', (backend) => {
  const SIZE = 64 * MIB;
  const work = mkdtempSync(join(tmpdir(), 'sd-again-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = join(work, 'disk');
  const settings = [`exports.backend=${backend}`, 'chain.consolidate=false'];

  /** Slow enough to be met in the middle: the limit outlives the daemon. */
  const startAndReachMiddle = async (type: 'full' | 'incremental'): Promise<Started> => {
    const started = appliance.json<Started>(
      ...(['backup', 'start', '--vm', 'm', '--type', type, '--rate', '8'] as const),
    );
    await until('a part of the disk is safe', () => safeBytes() > 4 * MIB);
    return started;
  };
  const safeBytes = (): number => {
    const [file] = halfDone(appliance).filter((name) => name.endsWith('.journal'));
    if (file === undefined) return 0;
    const lines = readFileSync(join(appliance.home, 'backups', file), 'utf8')
      .trimEnd()
      .split('\n');
    const last = lines.at(-1) ?? '';
    return last === '' ? 0 : (JSON.parse(last) as { until: number }).until;
  };
  const wentOnAt = (jobId: string): number[] =>
    operator
      .job(jobId)
      .warnings.flatMap((text) => /was ended at byte (\d+)/.exec(text)?.[1] ?? [])
      .map(Number);

  beforeAll(async () => {
    sh('dd', 'if=/dev/urandom', `of=${disk}`, 'bs=1M', `count=${SIZE / MIB}`, 'status=none');
    await appliance.start(settings);
    appliance.json('vm', 'add', 'm', '--disk', disk);
  });
  afterAll(async () => {
    await appliance.dispose();
    expect(appliance.leftovers()).toEqual([]);
    rmSync(work, { recursive: true, force: true });
  });

  it('goes on over a restart and a crash, where it was', async () => {
    const started = await startAndReachMiddle('full');
    await appliance.stop();
    const first = safeBytes();
    expect(first).toBeGreaterThan(4 * MIB);
    await appliance.start(settings);
    expect(operator.job(started.job_id).status).toMatch(/pending|running/);
    await until('more of it is safe', () => safeBytes() > first + 8 * MIB);
    await appliance.kill();
    const second = safeBytes();
    await appliance.start(settings);
    await hasEnded(operator, started.job_id);
    expect(operator.job(started.job_id)).toMatchObject({ status: 'completed', error: null });
    expect(wentOnAt(started.job_id)).toEqual([first, second]);
    operator.expectRestored(started.backup_id, 0, disk);
    const { disks } = appliance.json<{ disks: { written_bytes: number }[] }>(
      ...(['backup', 'show', started.backup_id] as const),
    );
    expect(disks[0]?.written_bytes).toBe(SIZE);
    expect(halfDone(appliance)).toEqual([]);
  });

  it('is given up when the disk is not the same any more, and the next one is whole', async () => {
    sh('dd', 'if=/dev/urandom', `of=${disk}`, 'bs=1M', `count=${SIZE / MIB}`, 'conv=notrunc', 'status=none');
    const { job_id } = await startAndReachMiddle('incremental');
    await appliance.kill();
    appendFileSync(disk, bytesOf('more', MIB));
    await appliance.start(settings);
    expect(operator.job(job_id)).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
    expect(halfDone(appliance)).toEqual([]);
    operator.expectRestored(operator.backUp('m').backup_id, 0, disk);
  });

  it('leaves nothing when the disk was written to and the daemon is stopped', async () => {
    await startAndReachMiddle('full');
    appendFileSync(disk, bytesOf('still more', MIB));
    await appliance.stop();
    expect(halfDone(appliance)).toEqual([]);
    await appliance.start(settings);
  });

  it('touches nothing when its catalogue is a copy from the middle of it', async () => {
    const copy = join(work, 'copy');
    const catalogue = join(appliance.home, 'state', 'catalog.db');
    const started = await startAndReachMiddle('full');
    await appliance.kill();
    cpSync(join(appliance.home, 'state'), copy, { recursive: true });
    await appliance.start(settings);
    await hasEnded(operator, started.job_id);
    const next = operator.backUp('m');
    // only its layer is left, for the one above it
    appliance.json('backup', 'delete', started.backup_id, '--merge');
    const before = contentOf(join(appliance.home, 'backups'));
    await appliance.stop();
    for (const end of ['', '-wal', '-shm']) rmSync(catalogue + end, { force: true });
    cpSync(copy, join(appliance.home, 'state'), { recursive: true });
    await appliance.start(settings);
    expect(operator.job(started.job_id).status).toBe('failed');
    expect(contentOf(join(appliance.home, 'backups'))).toEqual(before);
    operator.expectRestored(next.backup_id, 0, disk);
  });

  it('leaves nothing when it was cancelled before the daemon ended', async () => {
    const { job_id } = await startAndReachMiddle('full');
    expect(appliance.ctl('job', 'cancel', job_id).code).toBe(0);
    await hasEnded(operator, job_id);
    await appliance.stop();
    expect(halfDone(appliance)).toEqual([]);
    await appliance.start(settings);
    expect(operator.job(job_id).status).toBe('cancelled');
  });
});
