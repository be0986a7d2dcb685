import { readFile, readlink } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { run } from '../base/process/run.ts';

/**
 * Who is at the other end of a unix socket: the user ids of all processes that hold it. The kernel's list of sockets
 * says which socket is connected to ours and who has it open; Node does not know SO_PEERCRED.
 * @returns none when nobody holds it any more
 */
export async function peerUsers(socket: Socket): Promise<number[]> {
  const inode = await inodeOf(socket);
  const { stdout } = await run('ss', ['-x', '-p', '-H', 'state', 'connected']);
  const pids = inode === null ? [] : pidsAtOtherEnd(stdout, inode);
  return (await Promise.all(pids.map(userOf))).filter((uid) => uid !== null);
}

async function inodeOf(socket: Socket): Promise<string | null> {
  // no public property tells the number of a socket's descriptor
  const { fd } = (socket as unknown as { _handle?: { fd?: number } })._handle ?? {};
  if (fd === undefined || fd < 0) return null;
  const link = await readlink(`/proc/self/fd/${fd}`).catch(() => '');
  return /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? null;
}

/** Finds the line of the peer: the one whose other end is our inode. Pure. */
export function pidsAtOtherEnd(listed: string, inode: string): number[] {
  for (const line of listed.split('\n')) {
    // u_str 0 0 <path or *> <inode> <path or *> <inode of the other end> users:(("name",pid=1,fd=2))
    if (new RegExp(` ${inode} +(users:|$)`).exec(line) === null) continue;
    return [...line.matchAll(/,pid=(\d+),fd=\d+\)/g)].map(([, pid]) => Number(pid));
  }
  return [];
}

/** The effective user: what its rights are. */
async function userOf(pid: number): Promise<number | null> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1];
  return uid === undefined ? null : Number(uid);
}
