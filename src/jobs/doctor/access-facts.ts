import { stat } from 'node:fs/promises';
import { run } from '../../base/process/run.ts';
import type { AccessFacts } from './check-access.ts';

const TIMEOUT_MS = 5_000;

/** Null where nothing can tell, as in a container. */
async function isSynchronised(): Promise<boolean | null> {
  const args = ['show', '--property=NTPSynchronized', '--value'];
  const said = await run('timedatectl', args, { timeoutMs: TIMEOUT_MS }).then(
    ({ stdout }) => stdout.trim(),
    () => '',
  );
  return said === 'yes' ? true : said === 'no' ? false : null;
}

/** @param paths what holds secrets; it may be absent */
export async function accessFacts(
  paths: readonly string[],
  given: Pick<AccessFacts, 'now' | 'certificateUntil' | 'isOwnCertificate'>,
): Promise<AccessFacts> {
  const found = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ mode }) => [{ path, mode }],
        () => [],
      ),
    ),
  );
  // one clock goes on whatever is done to the other
  const jumpS = (Date.now() - (performance.timeOrigin + performance.now())) / 1000;
  return { ...given, secrets: found.flat(), isSynchronised: await isSynchronised(), jumpS };
}
