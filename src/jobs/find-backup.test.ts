import { expect, it } from 'vitest';
import type { Catalog } from '../catalog/catalog.ts';
import type { Backup } from '../catalog/points/backup-rows.ts';
import { findBackup, findDoomed } from './find-backup.ts';

/** Only what is asked by id. */
function catalogOf(...ids: string[]): Catalog {
  const backups = ids.map((id) => ({ id, copiedFrom: null }) as unknown as Backup);
  return {
    backups: {
      byId: (id: string) => backups.find((backup) => backup.id === id) ?? null,
      byPrefix: (prefix: string) => backups.filter((backup) => backup.id.startsWith(prefix)),
    },
  } as unknown as Catalog;
}

it('takes a beginning, but never another backup for a whole id that is gone', () => {
  const catalog = catalogOf('backup-m-20261121023213-2', 'backup-m-20261121023300');
  expect(findBackup(catalog, 'backup-m-202611210233').id).toBe('backup-m-20261121023300');
  expect(findBackup(catalog, 'backup-m-20261121023213-2').id).toBe('backup-m-20261121023213-2');
  expect(() => findBackup(catalog, 'backup-m-20261121023213')).toThrow('No backup matches');
});

it('takes the copy when it is all there is of an id', () => {
  const catalog = catalogOf('backup-m-20261121023213.4235faf2', 'backup-m-20261121023213-2');
  expect(findBackup(catalog, 'backup-m-20261121023213').id).toBe('backup-m-20261121023213.4235faf2');
  // but never to delete it
  expect(() => findDoomed(catalog, 'backup-m-20261121023213')).toThrow('No backup matches');
});
