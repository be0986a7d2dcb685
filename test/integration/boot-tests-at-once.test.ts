import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { storeBootTest } from '../../src/repository/boot-tests/boot-tests.ts';
import type { BootTestDocument } from '../../src/repository/boot-tests/document.ts';

it('keeps each of two tests that began in the same second and end together', async () => {
  const root = mkdtempSync(join(tmpdir(), 'sd-boots-'));
  try {
    mkdirSync(join(root, 'vm'));
    const store = async (job: string, keep: number) => {
      const evidence = join(root, `evidence-${job}`);
      mkdirSync(evidence);
      writeFileSync(join(evidence, 'serial.log'), job.repeat(100_000));
      const document = { backup_id: 'b', job_id: job } as BootTestDocument;
      return await storeBootTest(root, 'vm', { time: '20260101-000000', evidence, document }, keep);
    };
    const jobs = ['one', 'two', 'six'];
    const times = await Promise.all(jobs.map((job) => store(job, 3)));
    const folder = join(root, 'vm', 'boot-tests', 'b');
    expect(readdirSync(folder).sort()).toEqual(times.toSorted());
    for (const [index, job] of jobs.entries()) {
      const read = (name: string) => readFileSync(join(folder, times[index] ?? '', name), 'utf8');
      expect(JSON.parse(read('result.json'))).toMatchObject({ job_id: job });
      expect(read('serial.log')).toBe(job.repeat(100_000));
    }
    await store('new', 1);
    expect(readdirSync(folder)).toEqual(['20260101-000000-4']);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
