import { readFile } from 'node:fs/promises';

/** State of a connected socket in /proc/net/unix (SS_CONNECTED) and of an established one in /proc/net/tcp. */
const UNIX_CONNECTED = '03';
const TCP_ESTABLISHED = '01';

/** How many clients are connected to a unix socket. QEMU does not tell; the kernel does. */
export async function unixClients(socketPath: string): Promise<number> {
  const lines = (await readFile('/proc/net/unix', 'utf8')).split('\n');
  return lines.filter((line) => {
    // Num RefCount Protocol Flags Type St Inode Path; the path may hold spaces
    const match = /^\S+ \S+ \S+ \S+ \S+ (\S+) +\d+ (.*)$/.exec(line);
    return match?.[1] === UNIX_CONNECTED && match[2] === socketPath;
  }).length;
}

/** How many clients are connected to a port of this machine. */
export async function tcpClients(port: number): Promise<number> {
  const tables = await Promise.all(
    ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return tables
    .join('\n')
    .split('\n')
    .filter((line) => {
      const [, address, , state] = line.trim().split(/\s+/);
      return address?.endsWith(local) === true && state === TCP_ESTABLISHED;
    }).length;
}
