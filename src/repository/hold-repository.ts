import { hostname } from 'node:os';
import { writeJsonDurably } from '../base/durable-file.ts';
import { lockFile } from '../base/home/file-lock.ts';
import { newUuid } from '../base/ids.ts';
import { errnoOf, messageOf, SendenseError } from '../base/sendense-error.ts';
import { type HolderDocument, holderDocument, REPOSITORY_FORMAT } from './documents.ts';
import { layout } from './layout.ts';
import { readDocument } from './read-document.ts';

/** A repository that no other daemon can open until this is given back, or this process is gone. */
export interface RepositoryHold extends Disposable {
  /** Written there by whoever held it before; null when that is not known. */
  readonly previousToken: string | null;
  /** Written there now; null when there was no room for it. */
  readonly token: string | null;
}

/**
 * Takes the repository for this daemon. The folder must be the right one already: a file is written there.
 * @throws REPOSITORY_IN_USE with who has it; REPOSITORY_UNAVAILABLE when the file system knows no locks
 */
export async function holdRepository(root: string, home: string, now: Date): Promise<RepositoryHold> {
  const lock = takeLock(root);
  const before = await readHolder(root);
  if (lock === null)
    throw new SendenseError('REPOSITORY_IN_USE', {
      path: root,
      pid: before?.pid ?? 'unknown',
      host: before?.host ?? 'an unknown host',
      home: before?.home ?? 'unknown',
      since: before?.since ?? 'an unknown time',
    });
  const holder: HolderDocument = {
    format: REPOSITORY_FORMAT,
    host: hostname(),
    pid: process.pid,
    home,
    since: now.toISOString(),
    token: newUuid(),
  };
  let isWritten = true;
  try {
    await writeJsonDurably(layout.holderFile(root), holder);
  } catch (error) {
    // a full repository must open, or nothing could be deleted from it
    if (errnoOf(error) !== 'ENOSPC') {
      lock[Symbol.dispose]();
      throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail: messageOf(error) }, error);
    }
    isWritten = false;
  }
  return {
    previousToken: before?.token ?? null,
    token: isWritten ? holder.token : null,
    [Symbol.dispose]: () => lock[Symbol.dispose](),
  };
}

function takeLock(root: string): Disposable | null {
  try {
    return lockFile(layout.lockFile(root));
  } catch (error) {
    const detail = `it cannot be locked (${messageOf(error)}); does its file system have locks?`;
    throw new SendenseError('REPOSITORY_UNAVAILABLE', { path: root, detail }, error);
  }
}

/** What is told of a holder is only for people: a broken file is no reason to fail. */
const readHolder = (root: string): Promise<HolderDocument | null> =>
  readDocument(layout.holderFile(root), holderDocument).catch(() => null);
