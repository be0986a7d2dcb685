import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { messageOf, SendenseError } from '../base/sendense-error.ts';

/** What keeps this process from showing FUSE files, as far as it can be seen from here. */
export interface FuseFacts {
  readonly hasDevice: boolean;
  readonly uid: number;
  /** PR_SET_NO_NEW_PRIVS: fusermount3, which is setuid, does not become root. */
  readonly gainsNothing: boolean;
}

export async function fuseFacts(): Promise<FuseFacts> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  return {
    hasDevice: existsSync('/dev/fuse'),
    uid: process.getuid?.() ?? -1,
    gainsNothing: /^NoNewPrivs:\s+1$/m.test(status),
  };
}

/** Why there is no FUSE, and what to do; null when nothing stands in its way. Pure. */
export function whyNoFuse({
  hasDevice,
  uid,
  gainsNothing,
}: FuseFacts): { why: string; action: string } | null {
  if (!hasDevice)
    return { why: 'no /dev/fuse', action: 'modprobe fuse; in a container, pass /dev/fuse to it' };
  if (uid === 0 || !gainsNothing) return null;
  return {
    why: 'the service may gain no privileges (NoNewPrivileges), so fusermount3 mounts nothing',
    action:
      'modprobe nbd, for mounts of the mode kernel-nbd; or install the drop-in /usr/share/doc/sendense/examples/fuse.conf as it says, then systemctl daemon-reload && systemctl restart sendensed',
  };
}

/** @param error what qemu-storage-daemon answered */
export async function fuseUnavailable(error: unknown): Promise<SendenseError> {
  const reason = whyNoFuse(await fuseFacts()) ?? {
    why: messageOf(error),
    action: 'see `sendense-ctl doctor`',
  };
  return new SendenseError('FUSE_UNAVAILABLE', { ...reason }, error);
}
