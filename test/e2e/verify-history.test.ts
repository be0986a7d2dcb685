import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { flip, placeOf, type Shown, verifyTools } from '../support/verify-tools.ts';

const MIB = 1024 * 1024;

describe('a machine with a long history', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-verify-'));
  const appliance = new TestAppliance();
  const { backUp, show, verify, failing, events, find, rowsOf, sidecarOf } = verifyTools(appliance);
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
