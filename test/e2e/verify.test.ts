import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';

const MIB = 1024 * 1024;

interface Shown {
  backup_id: string;
  damaged: boolean;
  verified_at: string | null;
  verified_ok: boolean | null;
  disks: {
    disk_id: number;
    backup_type: string;
    layer: string;
    damage: string | null;
    verified_at: string | null;
    verified_ok: boolean | null;
  }[];
}
interface Job {
  job_id: string;
  status: string;
  warnings: string[];
  error: { code: string; fields: Record<string, unknown> } | null;
  progress: { processed_bytes: number; total_bytes: number; transferred_bytes: number };
  result: {
    checked: number;
    bad: number;
    rows: number;
    bytes: number;
    cleared: number;
    places_total: number;
    places: {
      backup_id: string;
      disk_id: number;
      layer: string;
      offset: number | null;
      code: string;
      detail: string;
    }[];
  };
}
interface Row {
  offset: number;
  size: number;
  b3?: string;
}

/** Flips one bit of a file; doing it again takes it back. */
function flip(path: string, at: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
  closeSync(file);
}

/** Where the guest's byte lies in this very layer, by qemu-img. */
function placeOf(path: string, guestByte: number): number {
  const image = JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename: path } });
  const map = JSON.parse(sh('qemu-img', 'map', '--output=json', `json:${image}`)) as {
    start: number;
    length: number;
    offset?: number;
  }[];
  const extent = map.find(({ start, length }) => start <= guestByte && guestByte < start + length);
  if (extent?.offset === undefined) throw new Error(`${path} holds no data at ${guestByte}`);
  return extent.offset + guestByte - extent.start;
}

const tools = (appliance: TestAppliance) => {
  const job = (id: string) => JSON.parse(appliance.rest('GET', `/api/v1/jobs/${id}`).body) as Job;
  return {
    job,
    backUp: (vm: string, type = 'incremental', ...more: string[]) =>
      appliance.json<Shown>('backup', 'start', '--vm', vm, '--type', type, '--wait', ...more),
    show: (id: string) => appliance.json<Shown>('backup', 'show', id),
    verify: (...args: string[]) => appliance.json<Job>('verify', ...args, '--wait'),
    failing: (...args: string[]) => {
      const result = appliance.ctl('verify', ...args, '--wait');
      expect([result.code, result.stdout]).toEqual([20, '']);
      expect(result.stderr).toContain('(VERIFY_FAILED)');
      const [last] = appliance.json<{ jobs: Job[] }>('job', 'list').jobs;
      return { result, last: job(last?.job_id ?? '') };
    },
    events: (kind: string) =>
      appliance
        .json<{
          events: { kind: string; severity: string; message: string; data: Record<string, unknown> }[];
        }>('events', '--limit', '1000')
        .events.filter((event) => event.kind === kind),
    find: (name: string, disk = 0) => sh('find', appliance.home, '-path', `*/disk-${disk}/${name}`).trim(),
    rowsOf: (layer: string): Row[] =>
      (
        JSON.parse(
          zstdDecompressSync(readFileSync(layer.replace(/\.qcow2$/, '.blocks.json.zst'))).toString(),
        ) as { blocks: Row[] }
      ).blocks,
    sidecarOf: (layer: string) =>
      JSON.parse(readFileSync(layer.replace(/\.qcow2$/, '.json'), 'utf8')) as {
        verification: null | { ok: boolean; rows?: number; bytes?: number; detail: string | null };
      },
  };
};

async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`it never came that ${what}`);
    await sleep(50);
  }
}

describe('a machine with a long history', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-verify-'));
  const appliance = new TestAppliance();
  const { backUp, show, verify, failing, events, find, rowsOf, sidecarOf } = tools(appliance);
  const disk = (name: string) => join(work, name);
  const points: Shown[] = [];
  const change = (name: string, offset: number, bytes: Buffer) => {
    const file = openSync(disk(name), 'r+');
    writeSync(file, bytes, 0, bytes.length, offset);
    closeSync(file);
  };
  const layerOf = (point: number, index: number) =>
    find(points[point]?.disks.find((entry) => entry.disk_id === index)?.layer ?? '?', index);
  const idOf = (point: number) => points[point]?.backup_id ?? '';

  beforeAll(async () => {
    // data, a hole of many MiB, data, and an odd end
    writeFileSync(disk('a'), bytesOf('a', 3 * MIB));
    truncateSync(disk('a'), 40 * MIB + 512);
    change('a', 37 * MIB, bytesOf('tail', 3 * MIB + 512));
    writeFileSync(disk('b'), bytesOf('b', 2 * MIB));
    await appliance.start(['exports.backend=storage-daemon']);
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
    points.push(backUp('m', 'full'));
    change('a', MIB, bytesOf('one', 70_000));
    change('a', 20 * MIB + 4096, bytesOf('in the hole', 4096));
    points.push(backUp('m'));
    change('a', 37 * MIB, Buffer.alloc(2 * MIB));
    change('b', 100, bytesOf('b one', 100));
    points.push(backUp('m'));
    truncateSync(disk('a'), 45 * MIB);
    change('a', 44 * MIB, bytesOf('grown', MIB));
    points.push(backUp('m', 'differential'));
    points.push(backUp('m'));
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  it('was never verified at first', () => {
    expect(show(idOf(0))).toMatchObject({ verified_at: null, verified_ok: null });
    expect(appliance.ctl('backup', 'list').stdout).toMatch(/VERIFIED[^\n]*\n.* never /);
  });

  it('is read with each row exactly once, and the verdict is kept in both places', () => {
    const done = verify('vm', 'm');
    const layers = points.flatMap((point, index) =>
      point.disks.map((entry) => layerOf(index, entry.disk_id)),
    );
    const rows = layers.flatMap(rowsOf);
    expect(done).toMatchObject({ status: 'completed', warnings: [], error: null });
    expect(done.result).toMatchObject({ checked: 10, bad: 0, places_total: 0, rows: rows.length });
    const digested = rows.filter((row) => row.b3 !== undefined).reduce((sum, row) => sum + row.size, 0);
    expect(done.result.bytes).toBeGreaterThanOrEqual(digested);
    // what reads as zeros is known from the tables
    expect(done.result.bytes).toBeLessThan(digested + 2 * MIB);
    expect(done.progress.processed_bytes).toBe(done.progress.total_bytes);
    for (const layer of layers)
      expect(sidecarOf(layer).verification).toMatchObject({ ok: true, detail: null });
    for (const point of points) {
      const shown = show(point.backup_id);
      expect(shown.verified_ok).toBe(true);
      expect(shown.verified_at).toBe(shown.disks.map((entry) => entry.verified_at).toSorted()[0]);
    }
    expect(appliance.ctl('backup', 'list').stdout).toMatch(/\d{4}-\d\d-\d\d +never +0:/);
    expect(events('verify.completed')[0]).toMatchObject({ severity: 'info', data: { checked: 10, bad: 0 } });
  });

  it('can be verified point by point, with exactly what is visible there', () => {
    for (const point of points) {
      const done = verify('backup', point.backup_id);
      expect(done.result).toMatchObject({ checked: 2, bad: 0, places_total: 0 });
      // each byte of both disks once at most
      expect(done.result.bytes).toBeLessThanOrEqual(47 * MIB);
      expect(done.result.bytes).toBeGreaterThan(5 * MIB);
    }
    expect(verify('backup', 'latest:m', '--rate', '1000').status).toBe('completed');
    expect(verify('repository', 'local').result.checked).toBe(10);
  });

  it('tells a flipped bit in the full, blames the full and no layer above it, and reads all the rest', () => {
    const full = layerOf(0, 0);
    const at = placeOf(full, 2 * MIB + 5000);
    flip(full, at);
    try {
      const { result, last } = failing('vm', 'm');
      expect(result.stderr).toContain(`byte ${2 * MIB}`);
      expect(last.result).toMatchObject({ checked: 10, bad: 5, places_total: 1 });
      expect(last.result.places).toEqual([
        expect.objectContaining({
          backup_id: idOf(0),
          disk_id: 0,
          layer: points[0]?.disks[0]?.layer,
          offset: 2 * MIB,
          code: 'LAYER_CORRUPT',
        }),
      ]);
      const [event] = events('verify.failed').slice(1);
      expect(event).toMatchObject({
        severity: 'error',
        data: {
          backup_id: idOf(0),
          disk_index: 0,
          layer: points[0]?.disks[0]?.layer,
          offset: 2 * MIB,
          places: 1,
        },
      });
      expect(event?.message).toMatch(/Restore from an older point or back up again/);
      for (const point of points) {
        const shown = show(point.backup_id);
        expect(shown).toMatchObject({ damaged: true, verified_ok: false });
        expect(shown.disks.map((entry) => entry.damage === null)).toEqual([false, true]);
        expect(shown.disks.map((entry) => entry.verified_ok)).toEqual([false, true]);
      }
      expect(appliance.ctl('backup', 'list').stdout).toContain(' BAD ');
      const { verification } = sidecarOf(full);
      expect(verification).toMatchObject({ ok: false });
      expect(verification?.detail).toContain(`byte ${2 * MIB}`);
      // those above are only marked in the catalogue: they are as good as what they stand on
      expect(sidecarOf(layerOf(1, 0)).verification).toMatchObject({ ok: true });
      expect(appliance.ctl('restore', 'disk', '--backup-id', idOf(1), '--output', disk('x')).code).toBe(20);
    } finally {
      flip(full, at);
    }
  });

  it('keeps the mark when all reads well again, until somebody clears it', () => {
    const again = verify('vm', 'm');
    expect(again).toMatchObject({ status: 'completed', result: { bad: 0, cleared: 0 } });
    expect(again.warnings).toHaveLength(5);
    expect(again.warnings[0]).toContain(`sendense-ctl verify backup ${idOf(0)} --clear`);
    expect(show(idOf(0))).toMatchObject({ damaged: true, verified_ok: false });
    // a chain of one branch; the other one stays marked
    expect(verify('backup', idOf(2), '--clear').result.cleared).toBe(3);
    expect(points.map((point) => show(point.backup_id).damaged)).toEqual([false, false, false, true, true]);
    expect(verify('vm', 'm', '--clear').result.cleared).toBe(2);
    expect(points.map((point) => show(point.backup_id).verified_ok)).toEqual([true, true, true, true, true]);
    expect(sidecarOf(layerOf(0, 0)).verification).toMatchObject({ ok: true });
    expect(events('chain.cleared')).toHaveLength(5);
    for (const [index, name] of ['a', 'b'].entries()) {
      const { disks } = points.at(-1) ?? { disks: [] };
      sh(
        'qemu-img',
        'compare',
        '-f',
        'qcow2',
        '-F',
        'raw',
        find(disks[index]?.layer ?? '', index),
        disk(name),
      );
    }
  });

  it('blames the middle of a chain when the fault is there, from whichever point it is looked at', () => {
    const middle = layerOf(1, 0);
    const at = placeOf(middle, 20 * MIB + 5000);
    flip(middle, at);
    try {
      const { last } = failing('backup', idOf(2));
      expect(last.result).toMatchObject({ checked: 2, bad: 1, places_total: 1 });
      expect(last.result.places[0]).toMatchObject({ layer: points[1]?.disks[0]?.layer, offset: 20 * MIB });
      // the differential stands on the full alone
      expect(points.map((point) => show(point.backup_id).damaged)).toEqual([false, true, true, false, false]);
      expect(verify('backup', idOf(4)).result.bad).toBe(0);
      expect(verify('backup', idOf(0)).result.bad).toBe(0);
    } finally {
      flip(middle, at);
    }
    verify('vm', 'm', '--clear');
  });

  it('finds a cluster that a flipped bit in a table made appear where no row is', () => {
    const layer = layerOf(1, 0);
    const bytes = readFileSync(layer);
    const l1 = Number(bytes.readBigUInt64BE(40));
    const l2 = Number(bytes.readBigUInt64BE(l1) & 0x00fffffffffffe00n);
    // "reads as zeros" for the third MiB, which only the full holds; qemu-img check has no objection
    const entry = l2 + ((2 * MIB) / 65_536) * 8 + 7;
    flip(layer, entry);
    try {
      sh('qemu-img', 'check', '-q', '-f', 'qcow2', layer);
      const { last } = failing('vm', 'm');
      expect(last.result.places[0]).toMatchObject({ layer: points[1]?.disks[0]?.layer, offset: 2 * MIB });
      expect(last.result.bad).toBe(2);
    } finally {
      flip(layer, entry);
    }
    verify('vm', 'm', '--clear');
  });

  it('can be restored although its digests are damaged, but is not built upon', () => {
    const rows = layerOf(4, 0).replace(/\.qcow2$/, '.blocks.json.zst');
    const sound = readFileSync(rows);
    writeFileSync(rows, sound.subarray(0, sound.length - 3));
    const { last } = failing('backup', idOf(4));
    expect(last.result.places[0]).toMatchObject({ code: 'ROWS_DAMAGED', layer: points[4]?.disks[0]?.layer });
    expect(show(idOf(4))).toMatchObject({ damaged: true, verified_ok: false });
    appliance.json('restore', 'disk', '--backup-id', idOf(4), '--output', disk('x'));
    sh('cmp', disk('x'), disk('a'));
    rmSync(disk('x'));
    const next = backUp('m');
    expect(next.disks.map((entry) => entry.backup_type)).toEqual(['full', 'incremental']);
    points.push(next);
    writeFileSync(rows, sound);
    expect(verify('backup', idOf(4), '--clear').result.cleared).toBe(1);
    expect(backUp('m').disks.map((entry) => entry.backup_type)).toEqual(['incremental', 'incremental']);
  });

  it('is still known to be good or bad after the catalogue was lost', async () => {
    const full = layerOf(0, 0);
    const at = placeOf(full, 500);
    flip(full, at);
    failing('backup', idOf(0));
    flip(full, at);
    const list = () =>
      appliance
        .json<{ backups: Shown[] }>('backup', 'list', '--status', 'completed')
        .backups.map(({ backup_id, damaged, disks }) => [
          backup_id,
          damaged,
          disks.map((entry) => entry.verified_at),
        ]);
    const before = list();
    await appliance.stop();
    for (const name of readdirSync(join(appliance.home, 'state')).filter((file) =>
      file.startsWith('catalog.db'),
    ))
      rmSync(join(appliance.home, 'state', name));
    await appliance.start(['exports.backend=storage-daemon']);
    expect(list()).toEqual(before);
    verify('vm', 'm', '--clear');
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    await appliance.start(['exports.backend=storage-daemon']);
  });
});

describe('a verification', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-verify-'));
  const appliance = new TestAppliance();
  const { backUp, show, verify, job, events } = tools(appliance);
  const settings = ['exports.backend=storage-daemon', 'repository.reserve_bytes=0'];
  const disk = join(work, 'disk');
  const root = join(work, 'mnt');

  beforeAll(async () => {
    writeFileSync(join(work, 'fs'), '');
    truncateSync(join(work, 'fs'), 64 * MIB);
    sh('mkfs.ext4', '-q', '-F', join(work, 'fs'));
    mkdirSync(root);
    sh('mount', '-o', 'loop', join(work, 'fs'), root);
    writeFileSync(disk, bytesOf('disk', 12 * MIB));
    await appliance.start(settings);
    appliance.json('repository', 'add', 'other', '--path', join(root, 'backups'));
    appliance.json('vm', 'add', 'm', '--disk', disk);
    backUp('m');
  });
  afterAll(async () => {
    await appliance.dispose();
    try {
      sh('umount', root);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });

  it('keeps its verdict in the catalogue when the repository can only be read', async () => {
    const { backup_id } = backUp('m', 'full', '--repository', 'other');
    await appliance.stop(); // it holds a lock there
    sh('mount', '-o', 'remount,ro', root);
    await appliance.start(settings);
    try {
      const done = verify('backup', backup_id);
      expect(done).toMatchObject({ status: 'completed', result: { bad: 0 } });
      expect(done.warnings.join()).toContain('could not be written beside');
      expect(show(backup_id).verified_ok).toBe(true);
    } finally {
      await appliance.stop();
      sh('mount', '-o', 'remount,rw', root);
      await appliance.start(settings);
    }
  });

  it('is refused when there is nothing to look at, or when one is under way', async () => {
    const post = (body: unknown) => {
      const { status, body: text } = appliance.rest('POST', '/api/v1/verify', body);
      return [status, (JSON.parse(text) as { code?: string }).code];
    };
    expect(post({ backup_id: 'nothing' })).toEqual([404, 'BACKUP_UNKNOWN']);
    expect(post({ vm_name: 'nobody' })).toEqual([404, 'VM_UNKNOWN']);
    expect(post({ repository: 'nowhere' })).toEqual([404, 'REPOSITORY_UNKNOWN']);
    for (const body of [
      {},
      { vm_name: 'm', repository: 'local' },
      { vm_name: 'm', rate_mib_per_s: 0 },
      { vm: 'm' },
    ])
      expect(post(body)).toEqual([400, 'REQUEST_INVALID']);
    appliance.json('vm', 'add', 'empty', '--disk', join(work, 'fs'));
    expect(post({ vm_name: 'empty' })).toEqual([409, 'NOTHING_TO_VERIFY']);
    const started = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(started.job_id).progress.transferred_bytes >= MIB);
    expect(post({ vm_name: 'm' })).toEqual([409, 'VERIFY_BUSY']);
    expect(post({ repository: 'local' })).toEqual([409, 'VERIFY_BUSY']);
    // a backup does not wait for it
    expect(backUp('m').disks[0]?.backup_type).toBe('incremental');
    expect(job(started.job_id).status).toBe('running');
    expect(appliance.ctl('job', 'cancel', started.job_id).code).toBe(0);
    expect(appliance.ctl('job', 'watch', started.job_id).code).toBe(130);
    expect(events('verify.cancelled')).toHaveLength(1);
    expect(appliance.processes('qemu-storage-daemon')).toHaveLength(1);
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    expect(verify('vm', 'm').result.bad).toBe(0);
  });

  it('under way ends with the daemon and leaves nothing', async () => {
    const started = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(started.job_id).progress.transferred_bytes >= MIB);
    await appliance.kill();
    await appliance.start(settings);
    expect(job(started.job_id)).toMatchObject({ status: 'failed', error: { code: 'INTERRUPTED' } });
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    const again = appliance.json<Job>('verify', 'vm', 'm', '--rate', '1');
    await until('it reads', () => job(again.job_id).progress.transferred_bytes >= MIB);
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(readdirSync(join(appliance.home, 'run', 'verify'))).toEqual([]);
    await appliance.start(settings);
  });
});

describe('the scrub', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-scrub-'));
  const appliance = new TestAppliance();
  const { backUp, show, events, find } = tools(appliance);
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
