import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { TestAppliance } from '../support/appliance.ts';
import { sh, sha256 } from '../support/guest-disk.ts';
import { Operator } from '../support/operator.ts';

const golden = join(dirname(fileURLToPath(import.meta.url)), '..', 'golden-repos');

it.each(readdirSync(golden).filter((name) => name.startsWith('format-')))(
  'opens and restores the golden repository %s without its catalogue',
  async (format) => {
    const work = mkdtempSync(join(tmpdir(), 'sd-gold-'));
    const home = join(work, 'home');
    const appliance = new TestAppliance(home);
    const operator = new Operator(appliance);
    const output = join(work, 'restored');
    try {
      mkdirSync(join(home, 'backups'), { recursive: true });
      cpSync(join(golden, format, 'backups'), join(home, 'backups'), { recursive: true });
      const expected = JSON.parse(readFileSync(join(golden, format, 'expected.json'), 'utf8')) as Record<
        string,
        string[]
      >;
      await appliance.start();
      const listed = operator.backups();
      expect(listed.map((backup) => backup.backup_id).toSorted()).toEqual(Object.keys(expected).toSorted());
      for (const [id, digests] of Object.entries(expected)) {
        for (const [index, digest] of digests.entries()) {
          operator.restore(id, index, output);
          expect(sha256(readFileSync(output))).toBe(digest);
          // and once more by qemu-img alone
          const layer =
            listed.find((backup) => backup.backup_id === id)?.disks.find((disk) => disk.disk_id === index)
              ?.layer ?? '';
          const path = sh('find', join(home, 'backups'), '-path', `*/disk-${index}/${layer}`).trim();
          sh('qemu-img', 'convert', '-O', 'raw', path, output);
          expect(sha256(readFileSync(output))).toBe(digest);
        }
      }
      const extracted = appliance.ctl(
        'backup',
        'extract',
        '--backup-id',
        'latest',
        '--disk',
        '0',
        '--file',
        '/second.txt',
        '--output',
        '-',
      );
      expect(extracted.stdout).toBe('second\n');
      // its machine is known from its backups alone, so it cannot be backed up until somebody adds it again
      expect(appliance.ctl('backup', 'start', '--vm', 'golden').code).toBe(13);
    } finally {
      await appliance.dispose();
      rmSync(work, { recursive: true, force: true });
    }
  },
);
