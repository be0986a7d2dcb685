import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { expectFailure, Operator, until } from '../support/operator.ts';

interface Live {
  readonly live_id: string;
  readonly disks: { readonly connect: { readonly uri: string } }[];
}

const MIB = 1024 * 1024;
const work = mkdtempSync(join(tmpdir(), 'sd-live-merge-'));
const file = (name: string) => join(work, name);
const appliance = new TestAppliance();
const operator = new Operator(appliance);
let newest = '';

beforeAll(async () => {
  await appliance.start(['chain.consolidate=false']);
  writeFileSync(file('disk'), bytesOf('old', 8 * MIB));
  appliance.json('vm', 'add', 'm', '--disk', file('disk'));
  operator.backUp('m', 'full');
  // zeros that only the newest layer knows: opened with a parent that it no longer has, it would show the old bytes
  writeFileSync(file('disk'), Buffer.concat([Buffer.alloc(4 * MIB), bytesOf('new', 4 * MIB)]));
  newest = operator.backUp('m', 'incremental').backup_id;
  copyFileSync(file('disk'), file('expected'));
});
afterAll(async () => {
  await appliance.dispose();
  rmSync(work, { recursive: true, force: true });
});

it('what is served stays what it was, whoever wants to rewrite its layers meanwhile', async () => {
  const live = appliance.json<Live>('restore', 'live', '--backup-id', newest, '--writable');
  const uri = live.disks[0]?.connect.uri ?? '';
  const expectSame = (image: string, format = 'raw') =>
    sh('qemu-img', 'compare', '-f', format, '-F', 'raw', image, file('expected'));
  expectSame(uri);
  const rewritten = appliance.ctl('backup', 'consolidate', '--vm', 'm', '--full', '--wait');
  // the storage daemon opens the layers anew
  const [pid = 0] = appliance.processes(live.live_id);
  process.kill(pid, 'SIGKILL');
  await until('it serves again', () => appliance.processes(live.live_id).some((other) => other !== pid));
  await until('it answers', () => {
    try {
      expectSame(uri);
      return true;
    } catch (error) {
      if (String(error).includes('mismatch')) throw error;
      return false;
    }
  });
  // and so does keeping
  appliance.json('restore', 'live', 'keep', live.live_id, '--output', file('kept'));
  sh('qemu-img', 'info', file('kept'));
  expectSame(file('kept'), sh('qemu-img', 'info', file('kept')).includes('qcow2') ? 'qcow2' : 'raw');
  expectFailure(rewritten, 'CHAIN_BUSY', 11);
  appliance.json('restore', 'live', 'remove', live.live_id);
  operator.expectRestored(newest, 0, file('expected'));
  expect(appliance.ctl('backup', 'consolidate', '--vm', 'm', '--full', '--wait').code).toBe(0);
  operator.expectRestored(newest, 0, file('expected'));
});
