import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFile, syncFolder, writeJsonDurably } from '../../base/durable-file.ts';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { layout } from '../layout.ts';
import { namesIn } from '../names-in.ts';
import { readDocument } from '../read-document.ts';
import { type BootTestDocument, bootTestDocument } from './document.ts';

/** Folder of one test: when it began, in UTC; of two in one second the second has a number. */
export const bootTestPattern = /^\d{8}-\d{6}(-\d+)?$/;
/** Files of a test. */
export const bootTestFilePattern = /^(result\.json|serial\.log|firmware\.log|screen-\d{1,3}\.png)$/;

/** Paths of a restore point's tests. Both names were validated: neither holds a slash. */
export const bootTestsOf = (root: string, vmUuid: string, backupId: string): string =>
  join(layout.bootTestsFolder(root, vmUuid), backupId);

export interface StoredBootTest {
  /** Name of its folder. */
  readonly time: string;
  readonly folder: string;
  readonly document: BootTestDocument;
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
}

/** Tests of a restore point, newest first. One whose result cannot be read is left out. */
export async function readBootTests(
  root: string,
  vmUuid: string,
  backupId: string,
): Promise<StoredBootTest[]> {
  const folder = bootTestsOf(root, vmUuid, backupId);
  const stored: StoredBootTest[] = [];
  for (const time of (await timesIn(folder)).toReversed()) {
    const path = join(folder, time);
    const document = await readDocument(join(path, 'result.json'), bootTestDocument).catch(
      (error: unknown) => {
        if (error instanceof SendenseError || errnoOf(error) !== null) return null;
        throw error;
      },
    );
    if (document?.backup_id !== backupId) continue;
    stored.push({ time, folder: path, document, files: await filesIn(path) });
  }
  return stored;
}

/** Restore points of a machine that were ever tested. */
export const testedBackups = async (root: string, vmUuid: string): Promise<string[]> =>
  await namesIn(layout.bootTestsFolder(root, vmUuid));

/**
 * Stores a test beside its restore point: it is there as a whole or not at all. Only the newest are kept.
 * @param evidence folder of files to copy
 * @returns the name of its folder
 */
export async function storeBootTest(
  root: string,
  vmUuid: string,
  test: { readonly time: string; readonly evidence: string; readonly document: BootTestDocument },
  keep: number,
): Promise<string> {
  const all = layout.bootTestsFolder(root, vmUuid);
  const folder = bootTestsOf(root, vmUuid, test.document.backup_id);
  await mkdir(folder, { recursive: true, mode: 0o750 });
  await syncFolder(dirname(all));
  await syncFolder(all);
  // two tests of one restore point may end in the same moment
  const name = await firstFree(test.time, (free) => makes(join(folder, `${free}.partial`)));
  const partial = join(folder, `${name}.partial`);
  try {
    for (const name of await namesIn(test.evidence)) {
      if (!bootTestFilePattern.test(name)) continue;
      await copyFile(join(test.evidence, name), join(partial, name), constants.COPYFILE_EXCL);
      await syncFile(join(partial, name));
    }
    await writeJsonDurably(join(partial, 'result.json'), test.document);
    const time = await firstFree(test.time, (free) => renamesTo(partial, join(folder, free)));
    await syncFolder(folder);
    for (const old of (await timesIn(folder)).toReversed().slice(keep))
      await rm(join(folder, old), { recursive: true, force: true });
    return time;
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

/** A time, or the time with the first number that `takes` it. */
async function firstFree(time: string, takes: (name: string) => Promise<boolean>): Promise<string> {
  let name = time;
  for (let count = 2; !(await takes(name)); count += 1) name = `${time}-${count}`;
  return name;
}

const isTaken = (error: unknown): false => {
  if (!['ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
  return false;
};
const makes = async (path: string) => await mkdir(path, { mode: 0o750 }).then(() => true, isTaken);
const renamesTo = async (from: string, to: string) => await rename(from, to).then(() => true, isTaken);

/** When a restore point goes, what was seen of it goes too. Absent is fine. */
export async function removeBootTests(root: string, vmUuid: string, backupId: string): Promise<void> {
  const all = layout.bootTestsFolder(root, vmUuid);
  if (!(await namesIn(all)).includes(backupId)) return;
  await rm(join(all, backupId), { recursive: true, force: true });
  await rmdir(all).catch((error: unknown) => {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error;
  });
  await syncFolder(dirname(all));
}

/** Oldest first. */
async function timesIn(folder: string): Promise<string[]> {
  const names = (await namesIn(folder)).filter((name) => bootTestPattern.test(name));
  const orderOf = (name: string) => [name.slice(0, 15), Number(name.slice(16) || 1)] as const;
  return names.toSorted((a, b) => {
    const [[timeA, countA], [timeB, countB]] = [orderOf(a), orderOf(b)];
    return timeA === timeB ? countA - countB : timeA < timeB ? -1 : 1;
  });
}

async function filesIn(folder: string): Promise<{ name: string; bytes: number }[]> {
  const files: { name: string; bytes: number }[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const stats = await lstat(join(folder, name));
    if (stats.isFile() && bootTestFilePattern.test(name)) files.push({ name, bytes: stats.size });
  }
  return files;
}
