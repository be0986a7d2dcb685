import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { SendenseError } from '../../base/sendense-error.ts';
import { deleteCheckpoint, listCheckpoints, ownPrefix } from './checkpoints.ts';
import type { LibvirtConnection } from './connection.ts';
import { thaw } from './freeze.ts';
import { complaintOf } from './host/virsh.ts';
import { parseXml, textAt } from './xml/parse-xml.ts';

/** What a backup under way has made at the libvirt host. */
export const libvirtLeftover = z.object({
  domain: z.string(),
  socket: z.string(),
  checkpoint: z.string().nullable(),
  scratch: z.array(z.string()),
  mayBeFrozen: z.boolean(),
});
export type LibvirtLeftover = z.infer<typeof libvirtLeftover>;

/** Ending a job means flushing nothing; more than this is a host in trouble. */
const END_TIMEOUT_MS = 30_000;

/** Ends the reading. The checkpoint stays: the next incremental begins there. */
export async function endBackup(connection: LibvirtConnection, leftover: LibvirtLeftover): Promise<void> {
  if ((await runningSocket(connection, leftover.domain)) === leftover.socket)
    await abortBackup(connection, leftover.domain);
  // QEMU removes both by itself, unless it was killed
  await connection.host.removeFiles([leftover.socket, ...leftover.scratch]);
}

/** Everything that a failed or interrupted attempt made is taken back; the bits of its checkpoint go to the parent. */
export async function cleanUpLeftover(
  connection: LibvirtConnection,
  leftover: LibvirtLeftover,
): Promise<void> {
  const { virsh } = connection;
  if (leftover.mayBeFrozen) await thaw(virsh, leftover.domain, () => undefined, 1);
  await endBackup(connection, leftover);
  const { checkpoint, domain } = leftover;
  if (checkpoint === null) return;
  const names = await listCheckpoints(virsh, domain).catch((error: unknown): string[] => {
    if (/failed to get domain|domain not found/i.test(complaintOf(error) ?? '')) return []; // it is gone
    throw error;
  });
  if (names.includes(checkpoint)) await deleteCheckpoint(virsh, domain, checkpoint);
}

/** The socket of the backup that runs; null: none does, or the domain does not run. */
async function runningSocket({ virsh }: LibvirtConnection, domain: string): Promise<string | null> {
  try {
    return textAt(parseXml(await virsh(['backup-dumpxml', domain])), '/domainbackup/server/@socket');
  } catch (error) {
    // that it cannot be reached says nothing of what runs there
    if (/no domain backup|not running|failed to get domain|domain not found/i.test(complaintOf(error) ?? ''))
      return null;
    throw error;
  }
}

/** Ends a backup whose socket was made for this machine by a daemon that is no more. @returns false: it is another's */
export async function endStaleBackup(
  connection: LibvirtConnection,
  domain: string,
  machineUuid: string,
): Promise<boolean> {
  const socket = await runningSocket(connection, domain);
  if (socket === null || !basename(socket).startsWith(ownPrefix(machineUuid))) return false;
  await abortBackup(connection, domain);
  await connection.host.removeFiles([socket]);
  return true;
}

/** libvirt answers before the job has ended. @throws LIBVIRT_FAILED when it does not end */
async function abortBackup(connection: LibvirtConnection, domain: string): Promise<void> {
  const { virsh } = connection;
  try {
    await virsh(['domjobabort', domain]);
  } catch (error) {
    if (complaintOf(error) === null) throw error; // it has ended meanwhile
  }
  const deadline = Date.now() + END_TIMEOUT_MS;
  while ((await runningSocket(connection, domain)) !== null) {
    if (Date.now() > deadline)
      throw new SendenseError('LIBVIRT_FAILED', {
        uri: domain,
        command: 'domjobabort',
        detail: `the backup job did not end within ${END_TIMEOUT_MS / 1000} s`,
      });
    await sleep(20);
  }
}
