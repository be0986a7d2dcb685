import { readdir, readFile } from 'node:fs/promises';

export interface NbdServerProcess {
  readonly pid: number;
  /** The listening process; its children, one per connection, are none. */
  readonly isParent: boolean;
}

/** Every nbd-server that was started with exactly this configuration file, which only one appliance has. */
export async function nbdServerProcesses(configFile: string): Promise<NbdServerProcess[]> {
  const found: NbdServerProcess[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // a process that ended meanwhile is none
    const [command, stat] = await Promise.all([
      readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => ''),
      readFile(`/proc/${name}/stat`, 'utf8').catch(() => ''),
    ]);
    if (!command.startsWith(`nbd-server\0-C\0${configFile}\0`)) continue;
    // daemonizing makes the parent the leader of its session; forked children are not
    const [, , , session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    found.push({ pid: Number(name), isParent: session === name });
  }
  return found;
}
