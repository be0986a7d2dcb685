import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, sh } from '../support/guest-disk.ts';
import { Operator, type ShownBackup } from '../support/operator.ts';

const MIB = 1024 * 1024;

describe('a layer that somebody harmed', () => {
  const work = mkdtempSync(join(tmpdir(), 'sd-harm-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
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
    const parent = operator.backUp('m', 'full');
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
    const next = operator.backUp('m');
    expect(next.disks.map((entry) => entry.backup_type)).toEqual(['full', 'incremental']);
    expect(next.disks[0]?.reason).toContain('the chain is damaged');
    const shown = appliance.json<ShownBackup>('backup', 'show', parent.backup_id);
    expect(shown.damaged).toBe(true);
    expect(shown.disks.map((entry) => entry.damage === null)).toEqual([false, true]);
    expect(operator.events('chain.damaged')[0]?.data).toMatchObject({
      disk_index: 0,
      backups: [parent.backup_id],
    });
    for (const [index, name] of ['a', 'b'].entries())
      operator.expectRestored(next.backup_id, index, disk(name));
    expect(operator.backUp('m').disks.map((entry) => entry.backup_type)).toEqual([
      'incremental',
      'incremental',
    ]);
  });

  it('is all known again after the catalogue was lost', async () => {
    const list = () => operator.backups('--status', 'completed');
    const before = list();
    await appliance.stop();
    for (const name of readdirSync(join(appliance.home, 'state')).filter((file) =>
      file.startsWith('catalog.db'),
    ))
      rmSync(join(appliance.home, 'state', name));
    await appliance.start(['exports.backend=storage-daemon']);
    expect(list().map((backup) => backup.backup_id)).toEqual(before.map((backup) => backup.backup_id));
    for (const [index, name] of ['a', 'b'].entries())
      operator.expectRestored(before[0]?.backup_id ?? '', index, disk(name));
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
    expect(operator.backUp('m').disks.map((entry) => entry.backup_type)).toEqual([
      'incremental',
      'incremental',
    ]);
  });
});
