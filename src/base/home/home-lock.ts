import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { SendenseError } from '../sendense-error.ts';
import { lockFile } from './file-lock.ts';

/**
 * Makes this process the only daemon of its home.
 * @throws DAEMON_RUNNING
 */
export function lockHome(path: string, home: string): Disposable {
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  const lock = lockFile(path);
  if (lock === null) throw new SendenseError('DAEMON_RUNNING', { pid: 'unknown', home });
  return lock;
}
