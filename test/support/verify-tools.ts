import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import { expect } from 'vitest';
import type { TestAppliance } from './appliance.ts';
import { sh } from './guest-disk.ts';

export interface Shown {
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
export interface Job {
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
export function flip(path: string, at: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  writeSync(file, Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
  closeSync(file);
}

/** Where the guest's byte lies in this very layer, by qemu-img. */
export function placeOf(path: string, guestByte: number): number {
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

/** What the tests of verification ask an appliance. */
export const verifyTools = (appliance: TestAppliance) => {
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
