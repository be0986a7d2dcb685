import { readFile, stat } from 'node:fs/promises';
import { messageOf, SendenseError } from '../../base/sendense-error.ts';

/**
 * Reads a secret when it is needed, so that a new one needs no restart.
 * @throws NOTIFY_FAILED when it cannot be read, is empty, or everybody can read it
 */
export async function secretOf(file: string): Promise<string> {
  const refused = (detail: string) => new SendenseError('NOTIFY_FAILED', { detail: `${file}: ${detail}` });
  try {
    const { mode } = await stat(file);
    if ((mode & 0o007) !== 0) throw refused('everybody on the appliance can read it; chmod 600 it');
    const secret = (await readFile(file, 'utf8')).trim();
    if (secret === '') throw refused('it is empty');
    return secret;
  } catch (error) {
    throw error instanceof SendenseError ? error : refused(messageOf(error));
  }
}
