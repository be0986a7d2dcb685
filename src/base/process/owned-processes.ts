import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Environment variable that marks every process of one appliance. Children inherit it, also those that
 * daemonize or fork by themselves, so a crashed daemon's leftovers are found by what they are, not by name.
 */
export const OWNER_VARIABLE = 'SENDENSE_OWNER';

export function ownerIdOf(home: string): string {
  return createHash('sha256').update(home).digest('hex').slice(0, 32);
}

/** Marks all processes that this one starts from now on. */
export function markChildren(ownerId: string): void {
  process.env[OWNER_VARIABLE] = ownerId;
}

/** Pids of live processes that carry the mark; never our own. Zombies do not count. */
export async function ownedProcesses(ownerId: string): Promise<number[]> {
  const mark = Buffer.from(`${OWNER_VARIABLE}=${ownerId}\0`);
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const owned: number[] = [];
  for (const pid of pids) {
    if (pid === process.pid) continue;
    // a process that ended meanwhile, or another user's, is not ours
    const environment = await readFile(`/proc/${pid}/environ`).catch(() => null);
    if (environment?.includes(mark) && (await isAlive(pid))) owned.push(pid);
  }
  return owned;
}

/** True while the process runs; a zombie has ended. */
export async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  if (stat === null) return false;
  // the command name stands in parentheses and may contain anything; the state follows the last one
  return !/^ [ZX]/.test(stat.slice(stat.lastIndexOf(')') + 1));
}

export function kill(pid: number, signal: 'SIGTERM' | 'SIGKILL' | 'SIGHUP'): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Ends all leftovers of an earlier daemon of this home. Returns how many there were. */
export async function endOwnedProcesses(ownerId: string): Promise<number> {
  const found = await ownedProcesses(ownerId);
  let left = found;
  for (let round = 0; left.length > 0 && round < 100; round += 1) {
    for (const pid of left) kill(pid, 'SIGKILL');
    await sleep(20);
    left = await ownedProcesses(ownerId);
  }
  return found.length;
}
