import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { bytesOf, insideDisk, makePlainDisk, sh } from '../support/guest-disk.ts';
import { Operator, type ShownBackup } from '../support/operator.ts';

const MIB = 1024 * 1024;

describe.each(['nbd-server', 'storage-daemon'])('the main job through %s', (backend) => {
  const work = mkdtempSync(join(tmpdir(), 'sd-job-'));
  const appliance = new TestAppliance();
  const operator = new Operator(appliance);
  const disk = (name: string) => join(work, name);
  const saved = (id: string, name: string) => disk(`${name}.${id}`);
  const backUp = (type: string, ...disks: string[]) => {
    const shown = operator.backUp('m', type);
    for (const name of disks) copyFileSync(disk(name), saved(shown.backup_id, name));
    return shown;
  };
  const restored = (id: string, index: number, format = 'raw') => {
    const output = disk(`restored-${index}`);
    operator.restore(id, index, output, format);
    return output;
  };
  const patch = (name: string, offset: number, bytes: Buffer) => {
    const content = readFileSync(disk(name));
    bytes.copy(content, offset);
    writeFileSync(disk(name), content);
  };

  beforeAll(async () => {
    await appliance.start([`exports.backend=${backend}`]);
    const plain = makePlainDisk(disk('a'), 96);
    insideDisk(disk('a'), plain, (root) => {
      mkdirSync(join(root, 'var'));
      writeFileSync(join(root, 'var', 'note.txt'), 'as it was\n');
      writeFileSync(join(root, 'big.dat'), bytesOf('big', 12 * MIB));
    });
    // no multiple of 1 MiB and holes in the middle
    writeFileSync(disk('b'), bytesOf('b', 9 * MIB + 512));
    truncateSync(disk('b'), 40 * MIB + 1536);
    appliance.json('vm', 'add', 'm', '--disk', disk('a'), '--disk', disk('b'));
  });
  afterAll(async () => {
    await appliance.dispose();
    rmSync(work, { recursive: true, force: true });
  });

  const ids: string[] = [];

  it('makes fulls, incrementals and differentials that restore bit for bit', () => {
    const full = backUp('full', 'a', 'b');
    expect(full.disks.map((entry) => entry.backup_type)).toEqual(['full', 'full']);
    patch('b', 5 * MIB + 100, bytesOf('patch', 3000));
    patch('b', 40 * MIB + 1000, bytesOf('tail', 500));
    const second = backUp('incremental', 'a', 'b');
    expect(second.disks[1]).toMatchObject({
      backup_type: 'incremental',
      parent_layer: full.disks[1]?.layer,
      reason: null,
    });
    // two places in two steps of 64 KiB each at most: the transfer is proportional to the change
    expect(second.disks[1]?.written_bytes).toBeLessThanOrEqual(3 * 65536);
    patch('b', 2 * MIB, Buffer.alloc(3 * MIB)); // zeros that must mask the parent's data
    const third = backUp('incremental', 'a', 'b');
    patch('b', 20 * MIB, bytesOf('in the hole', 70_000));
    const differential = backUp('differential', 'a', 'b');
    expect(differential.disks[1]).toMatchObject({
      backup_type: 'differential',
      parent_layer: full.disks[1]?.layer,
    });
    patch('b', 0, bytesOf('after', 100));
    const fifth = backUp('incremental', 'a', 'b');
    expect(fifth.disks[1]?.parent_layer).toBe(differential.disks[1]?.layer);
    ids.push(full.backup_id, second.backup_id, third.backup_id, differential.backup_id, fifth.backup_id);
    for (const id of ids) {
      sh('cmp', restored(id, 0), saved(id, 'a'));
      sh('cmp', restored(id, 1), saved(id, 'b'));
    }
    sh(
      'qemu-img',
      'compare',
      '-f',
      'qcow2',
      '-F',
      'raw',
      restored(fifth.backup_id, 1, 'qcow2'),
      saved(fifth.backup_id, 'b'),
    );
  });

  it('leaves layers that plain qemu-img opens without us', () => {
    for (const id of ids) {
      for (const entry of appliance.json<ShownBackup>('backup', 'show', id).disks) {
        const layer = sh(
          'find',
          join(appliance.home, 'backups'),
          '-path',
          `*/disk-${entry.disk_id}/${entry.layer}`,
        ).trim();
        sh('qemu-img', 'check', '-q', layer);
        sh('qemu-img', 'convert', '-O', 'raw', layer, disk('plain'));
        sh('cmp', disk('plain'), saved(id, entry.disk_id === 0 ? 'a' : 'b'));
      }
    }
  });

  it('gets a file out of an old and of a new restore point', () => {
    insideDisk(disk('a'), { offsetBytes: 0, sizeBytes: 96 * MIB }, (root) =>
      writeFileSync(join(root, 'var', 'note.txt'), 'as it is\n'),
    );
    const newest = backUp('incremental', 'a', 'b');
    ids.push(newest.backup_id);
    for (const [id, text] of [
      [ids[0], 'as it was\n'],
      ['latest:m', 'as it is\n'],
    ] as const) {
      const output = disk(`note-${text.length}`);
      const result = appliance.ctl(
        'backup',
        'extract',
        '--backup-id',
        id ?? '',
        '--file',
        '/var/note.txt',
        '--output',
        output,
        '--disk',
        '0',
      );
      expect(result.stderr).toContain('/var/note.txt is in');
      expect(readFileSync(output, 'utf8')).toBe(text);
    }
  });

  it('follows a disk that grows, and goes full when it shrinks', () => {
    truncateSync(disk('b'), 55 * MIB);
    patch('b', 54 * MIB, bytesOf('grown', 1000));
    const grown = backUp('incremental', 'a', 'b');
    expect(grown.disks[1]?.backup_type).toBe('incremental');
    sh('cmp', restored(grown.backup_id, 1), saved(grown.backup_id, 'b'));
    truncateSync(disk('b'), 30 * MIB);
    const shrunk = backUp('incremental', 'a', 'b');
    expect(shrunk.disks[1]).toMatchObject({ backup_type: 'full' });
    expect(shrunk.disks[1]?.reason).toContain('shrank');
    expect(shrunk.disks[0]?.backup_type).toBe('incremental');
    sh('cmp', restored(shrunk.backup_id, 1), saved(shrunk.backup_id, 'b'));
  });

  it('makes only an added disk go full, and forgets a removed one', () => {
    sh('qemu-img', 'create', '-q', '-f', 'qcow2', disk('c'), '20M');
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 3M 2M', disk('c'));
    appliance.json('vm', 'set', 'm', '--add-disk', disk('c'), '--remove-disk', disk('a'));
    const changed = backUp('incremental', 'b', 'c');
    expect(changed.disks.map((entry) => [entry.disk_id, entry.backup_type])).toEqual([
      [1, 'incremental'],
      [2, 'full'],
    ]);
    expect(changed.disks[1]?.reason).toContain('no earlier backup');
    sh(
      'qemu-img',
      'compare',
      '-f',
      'raw',
      '-F',
      'qcow2',
      restored(changed.backup_id, 2),
      saved(changed.backup_id, 'c'),
    );
    sh('qemu-io', '-f', 'qcow2', '-c', 'write -z 3M 1M', '-c', 'write -P 9 10M 64k', disk('c'));
    const again = backUp('incremental', 'b', 'c');
    expect(again.disks[1]?.backup_type).toBe('incremental');
    sh(
      'qemu-img',
      'compare',
      '-f',
      'raw',
      '-F',
      'qcow2',
      restored(again.backup_id, 2),
      saved(again.backup_id, 'c'),
    );
  });

  it('reads a block device', () => {
    writeFileSync(disk('d'), bytesOf('d', 8 * MIB));
    const device = sh('losetup', '-f', '--show', disk('d')).trim();
    try {
      appliance.json('vm', 'add', 'dev', '--disk', device);
      const shown = operator.backUp('dev', 'full');
      sh('cmp', restored(shown.backup_id, 0), disk('d'));
    } finally {
      sh('losetup', '-d', device);
    }
  });

  it('refuses to delete what others need, and deletes the rest', () => {
    const all = operator.backups('--vm', 'm');
    const oldest = all.at(-1)?.backup_id ?? '';
    const refused = appliance.ctl('backup', 'delete', oldest);
    expect(refused.code).toBe(13);
    expect(refused.stderr).toContain(ids[1]);
    const newest = all[0]?.backup_id ?? '';
    expect(appliance.ctl('backup', 'delete', newest).code).toBe(0);
    const folder = join(appliance.home, 'backups');
    expect(readdirSync(folder, { recursive: true }).filter((name) => String(name).includes(newest))).toEqual(
      [],
    );
    expect(appliance.ctl('backup', 'show', newest).code).toBe(10);
    expect(appliance.ctl('backup', 'delete', oldest, '--cascade').code).toBe(0);
    expect(operator.backups('--vm', 'm')).toHaveLength(0);
  });

  it('leaves nothing behind when it stops', async () => {
    await appliance.stop();
    expect(appliance.leftovers()).toEqual([]);
    expect(readdirSync(join(appliance.home, 'run', 'exports'))).toEqual([]);
  });
});
