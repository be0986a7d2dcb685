import { messageOf } from '../../base/sendense-error.ts';
import type { Virsh } from './host/virsh.ts';

/** Windows gives its writers 10 s and then goes on by itself; no guest should wait longer. */
const FREEZE_TIMEOUT_S = 10;
/** For virsh itself, which ought to have heard from libvirt by then. */
const VIRSH_TIMEOUT_MS = (FREEZE_TIMEOUT_S + 10) * 1000;
const THAW_TRIES = 3;

/**
 * Runs `work` while the guest's file systems are frozen, and thaws them whatever happens. A guest that cannot be frozen
 * is backed up all the same, as after a power cut.
 * @returns what `work` returned, and whether the freeze held
 */
export async function whileFrozen<T>(
  virsh: Virsh,
  domain: string,
  warn: (text: string) => void,
  work: () => Promise<T>,
): Promise<{ result: T; wasFrozen: boolean }> {
  const isFrozen = await freeze(virsh, domain, warn);
  try {
    const result = await work();
    return { result, wasFrozen: isFrozen };
  } finally {
    // also after a failed freeze: one that came too late for us may have held all the same
    if (isFrozen) await thaw(virsh, domain, warn);
    else await thaw(virsh, domain, () => undefined, 1);
  }
}

async function freeze(virsh: Virsh, domain: string, warn: (text: string) => void): Promise<boolean> {
  try {
    // otherwise libvirt waits for ever for a guest that hangs
    await virsh(['guest-agent-timeout', domain, '--timeout', String(FREEZE_TIMEOUT_S)]);
    await virsh(['domfsfreeze', domain], { timeoutMs: VIRSH_TIMEOUT_MS });
    return true;
  } catch (error) {
    warn(`The guest could not be frozen: ${messageOf(error)} The backup is as after a power cut.`);
    return false;
  }
}

export async function thaw(
  virsh: Virsh,
  domain: string,
  warn: (text: string) => void,
  tries = THAW_TRIES,
): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await virsh(['domfsthaw', domain], { timeoutMs: VIRSH_TIMEOUT_MS });
      return;
    } catch (error) {
      if (attempt < tries) continue;
      warn(`The guest could not be thawed and may stand still: ${messageOf(error)}`);
      return;
    }
  }
}
