import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';
import { confirmRepository, type Repository } from '../../repository/open-repository.ts';

/** A hard-mounted NFS server that is gone lets every call hang for ever. */
const ANSWER_MS = 10_000;

/** True when a file system did not answer: whatever is asked of it next may never return. */
export const isSilence = (error: unknown): boolean =>
  error instanceof SendenseError && error.fields['silent'] === true;

/** What is wrong, without the path. */
export const reasonOf = (error: unknown): string =>
  error instanceof SendenseError && error.code === 'REPOSITORY_UNAVAILABLE'
    ? String(error.fields['detail'])
    : messageOf(error);

/** Like `confirmRepository`, and a file system that does not answer is taken as away. @throws the same */
export async function confirmSoon(repository: Repository): Promise<void> {
  const silence = new AbortController();
  const silent = sleep(ANSWER_MS, undefined, { ref: false, signal: silence.signal }).then(
    () => {
      throw new SendenseError('REPOSITORY_UNAVAILABLE', {
        path: repository.root,
        detail: `its file system does not answer for ${ANSWER_MS / 1000} s`,
        silent: true,
      });
    },
    () => undefined,
  );
  try {
    await Promise.race([confirmRepository(repository), silent]);
  } finally {
    silence.abort();
  }
}
