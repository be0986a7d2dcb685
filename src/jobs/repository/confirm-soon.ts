import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError } from '../../base/sendense-error.ts';
import { confirmRepository, type Repository } from '../../repository/open-repository.ts';

/** A hard-mounted NFS server that is gone lets every call hang for ever. */
const ANSWER_MS = 10_000;

/** Like `confirmRepository`, and a file system that does not answer is taken as away. @throws the same */
export async function confirmSoon(repository: Repository): Promise<void> {
  const silence = new AbortController();
  const silent = sleep(ANSWER_MS, undefined, { ref: false, signal: silence.signal }).then(
    () => {
      throw new SendenseError('REPOSITORY_UNAVAILABLE', {
        path: repository.root,
        detail: `its file system does not answer for ${ANSWER_MS / 1000} s`,
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
