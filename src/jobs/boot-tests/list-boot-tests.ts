import { constants } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { SendenseError } from '../../base/sendense-error.ts';
import type { Catalog } from '../../catalog/catalog.ts';
import type { Backup } from '../../catalog/points/backup-rows.ts';
import {
  bootTestFilePattern,
  bootTestPattern,
  bootTestsOf,
  readBootTests,
  type StoredBootTest,
} from '../../repository/boot-tests/boot-tests.ts';
import { confirmRepository } from '../../repository/open-repository.ts';
import { findBackup } from '../find-backup.ts';
import type { Repositories } from '../repository/repositories.ts';

interface ListDeps {
  readonly catalog: Catalog;
  readonly repositories: Repositories;
}

async function placeOf({ catalog, repositories }: ListDeps, wanted: string) {
  const backup = findBackup(catalog, wanted);
  const repository = repositories.byId(backup.repositoryId);
  await confirmRepository(repository);
  const vm = catalog.vms.byContext(backup.contextId);
  if (!vm) throw new SendenseError('VM_UNKNOWN', { vm: backup.vmName });
  return { backup, root: repository.root, vmUuid: vm.vmUuid };
}

/** Newest first. @throws BACKUP_UNKNOWN, BACKUP_AMBIGUOUS, REPOSITORY_UNAVAILABLE */
export async function listBootTests(
  deps: ListDeps,
  wanted: string,
): Promise<{ backup: Backup; tests: StoredBootTest[] }> {
  const { backup, root, vmUuid } = await placeOf(deps, wanted);
  return { backup, tests: await readBootTests(root, vmUuid, backup.id) };
}

/**
 * Opens a file of a test. Whoever can write to a repository must not have other files of this machine read: no link
 * is followed.
 * @throws BOOT_TEST_UNKNOWN, and as listBootTests
 */
export async function openEvidence(
  deps: ListDeps,
  wanted: string,
  time: string,
  file: string,
): Promise<{ handle: FileHandle; bytes: number }> {
  const { backup, root, vmUuid } = await placeOf(deps, wanted);
  const unknown = (cause?: unknown) =>
    new SendenseError('BOOT_TEST_UNKNOWN', { backup: backup.id, file: `${time}/${file}` }, cause);
  if (!bootTestPattern.test(time) || !bootTestFilePattern.test(file)) throw unknown();
  const folder = join(bootTestsOf(root, vmUuid, backup.id), time);
  let handle: FileHandle | null = null;
  try {
    if ((await realpath(folder)) !== join(await realpath(root), folder.slice(root.length))) throw unknown();
    handle = await open(join(folder, file), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stats = await handle.stat();
    if (!stats.isFile()) throw unknown();
    return { handle, bytes: stats.size };
  } catch (error) {
    await handle?.close();
    throw error instanceof SendenseError ? error : unknown(error);
  }
}
