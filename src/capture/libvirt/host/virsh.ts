import { OWNER_VARIABLE } from '../../../base/process/owned-processes.ts';
import { run } from '../../../base/process/run.ts';
import { hasCode, SendenseError, toSendenseError } from '../../../base/sendense-error.ts';
import type { LibvirtPlace, SshTarget } from './libvirt-uri.ts';
import { sshWrapper } from './ssh-master.ts';

/** Longer than libvirt waits for another job of the same domain (30 s), so that its own words are heard. */
const TIMEOUT_MS = 60_000;

export interface VirshOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** Runs one command of virsh and returns what it prints. @throws LIBVIRT_FAILED, TOOL_MISSING, TOOL_TIMEOUT, CANCELLED */
export type Virsh = (args: readonly string[], options?: VirshOptions) => Promise<string>;

/** @param runFolder for what a login behind ssh needs on this side */
export function virshAt({ uri, ssh }: LibvirtPlace, runFolder: string): Virsh {
  return async (args, options = {}) => {
    try {
      const place = ssh === null ? uri : await sharing(uri, ssh, runFolder);
      const { stdout } = await run('virsh', ['-q', '-c', place, ...args], {
        timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
        // it may start the daemon of a session, and that is not ours to clean up
        env: { [OWNER_VARIABLE]: undefined },
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      return stdout;
    } catch (error) {
      if (!hasCode(error, 'TOOL_FAILED')) throw error;
      const detail = plainly(String(toSendenseError(error).fields['detail']));
      throw new SendenseError('LIBVIRT_FAILED', { uri, command: args[0] ?? '', detail }, error);
    }
  };
}

async function sharing(uri: string, ssh: SshTarget, runFolder: string): Promise<string> {
  const wrapper = encodeURIComponent(await sshWrapper(ssh, runFolder));
  return `${uri}${uri.includes('?') ? '&' : '?'}command=${wrapper}`;
}

/** The last of virsh's complaints is the reason; the ones before only say what it was about to do. */
function plainly(text: string): string {
  const complaints = text
    .split('\n')
    .map((line) => line.replace(/^error: /, '').trim())
    .filter((line) => line !== '');
  return (complaints.at(-1) ?? 'it said nothing').replace(/\.$/, '');
}

/** What libvirt said, of an error of `Virsh`; null for any other failure. */
export const complaintOf = (error: unknown): string | null =>
  hasCode(error, 'LIBVIRT_FAILED') ? String(toSendenseError(error).fields['detail']) : null;
