import { setTimeout as sleep } from 'node:timers/promises';
import { SendenseError, toSendenseError } from '../../base/sendense-error.ts';
import { formatBytes } from '../../base/units.ts';
import { type Repository, repositorySpace } from '../../repository/open-repository.ts';
import { confirmSoon } from './confirm-soon.ts';

/** Looks at a repository as long as something is written there. */
export interface RepositoryGuard extends Disposable {
  /** Aborted when the work must stop: because of the repository, or because of who started it. */
  readonly signal: AbortSignal;
  /** What is wrong with the repository; null: nothing. */
  failure(): SendenseError | null;
  /** From now on only small files are written: that is what the reserve is for. */
  finishing(): void;
}

/** Between two looks while there is room; much can be written in that time. */
const EASY_MS = 500;
/** When the reserve is near. */
const NEAR_MS = 50;
/** Nearer than what fast storage takes in `EASY_MS`. */
const NEAR_BYTES = 2 * 1024 ** 3;

/**
 * Stops work before it uses up the reserve, which belongs to manifests and deletions, and when its repository is gone.
 */
export function guardRepository(
  repository: Repository,
  reserveBytes: number,
  outer: AbortSignal,
): RepositoryGuard {
  const stop = new AbortController();
  const ended = new AbortController();
  let failure: SendenseError | null = null;
  let reserve: number | null = reserveBytes;
  const look = async (): Promise<number> => {
    await confirmSoon(repository);
    const { availableBytes } = await repositorySpace(repository.root);
    if (reserve === null) return EASY_MS;
    if (availableBytes < reserve)
      throw new SendenseError('REPOSITORY_FULL', {
        path: repository.root,
        detail: `only ${formatBytes(availableBytes)} are free, and ${formatBytes(reserve)} are reserved for finishing and deleting`,
      });
    return availableBytes < reserve + NEAR_BYTES ? NEAR_MS : EASY_MS;
  };
  const watch = async () => {
    while (!ended.signal.aborted && !outer.aborted) {
      const pauseMs = await look();
      await sleep(pauseMs, undefined, { ref: false, signal: ended.signal });
    }
  };
  watch().catch((error: unknown) => {
    if (ended.signal.aborted) return;
    failure = toSendenseError(error);
    stop.abort();
  });
  return {
    signal: AbortSignal.any([outer, stop.signal]),
    failure: () => failure,
    finishing: () => {
      reserve = null;
    },
    [Symbol.dispose]: () => ended.abort(),
  };
}
