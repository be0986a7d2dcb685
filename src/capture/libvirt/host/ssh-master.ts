import { createHash } from 'node:crypto';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../../base/process/run.ts';
import { type PipedProcess, runPiped } from '../../../base/process/run-piped.ts';
import type { SshTarget } from './libvirt-uri.ts';

/** A backup asks some twenty questions; with a login for each, sshd would refuse some of five machines at once. */
const IDLE_MS = 60_000;
const READY_MS = 20_000;

interface Master {
  readonly controlPath: string;
  readonly child: PipedProcess;
  readonly ready: Promise<boolean>;
  isAlive: boolean;
  timer: NodeJS.Timeout | undefined;
}

const masters = new Map<string, Master>();

/** Options of ssh that log in to a target. @param options stand before the host */
export function sshLogin(target: SshTarget, options: readonly string[] = []): string[] {
  const { host, user, port, keyFile, skipsHostKey } = target;
  const unknown = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null'];
  return [
    ...['-T', '-e', 'none', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=15', '-o', 'ServerAliveInterval=15'],
    ...['-o', 'LogLevel=ERROR', ...options],
    ...(skipsHostKey ? unknown : []),
    ...(keyFile === null ? [] : ['-i', keyFile]),
    ...(user === null ? [] : ['-l', user]),
    ...(port === null ? [] : ['-p', String(port)]),
    '--',
    host,
  ];
}

/**
 * One login that others share, kept for a while after the last use. When it cannot be had each logs in by itself, and
 * says why that fails.
 * @param folder for its socket
 * @returns options for ssh
 */
export async function sharedLogin(target: SshTarget, folder: string): Promise<string[]> {
  const key = createHash('sha256')
    .update(JSON.stringify([target, folder]))
    .digest('hex')
    .slice(0, 16);
  let master = masters.get(key);
  if (!master?.isAlive) {
    master = startMaster(target, join(folder, `m${key}`), key);
    masters.set(key, master);
  }
  clearTimeout(master.timer);
  const isReady = await master.ready;
  if (!isReady) return ['-o', 'ControlPath=none'];
  master.timer = setTimeout(() => master.child.kill('SIGTERM'), IDLE_MS);
  master.timer.unref();
  return ['-o', 'ControlMaster=no', '-o', `ControlPath=${master.controlPath}`];
}

/** Before this process ends: a login does not end with who asked for it. */
export async function endSharedLogins(): Promise<void> {
  const all = [...masters.values()];
  for (const { child } of all) child.kill('SIGTERM');
  await Promise.all(all.map(({ child }) => child.done.catch(() => undefined)));
}

function startMaster(target: SshTarget, controlPath: string, key: string): Master {
  const child = runPiped('ssh', ['-N', '-M', ...sshLogin(target, ['-S', controlPath])]);
  child.stdout.resume();
  const master: Master = {
    controlPath,
    child,
    ready: Promise.resolve(false),
    isAlive: true,
    timer: undefined,
  };
  const ended = child.done
    .catch(() => undefined)
    .then(async () => {
      master.isAlive = false;
      clearTimeout(master.timer);
      if (masters.get(key) === master) masters.delete(key);
      await rm(controlPath, { force: true });
    });
  const ready = async () => {
    const deadline = Date.now() + READY_MS;
    while (master.isAlive && Date.now() < deadline) {
      const check = ['-O', 'check', ...sshLogin(target, ['-S', controlPath])];
      if ((await run('ssh', check, { okExitCodes: [0, 255] })).exitCode === 0) return true;
      await Promise.race([sleep(50), ended]);
    }
    child.kill('SIGTERM');
    return false;
  };
  return Object.assign(master, { ready: ready() });
}

/** A program for `command=` of a URI, so that virsh shares the login too. */
export async function sshWrapper(target: SshTarget, folder: string): Promise<string> {
  const options = await sharedLogin(target, folder);
  const text = `#!/bin/sh\nexec ssh ${options.map((option) => `'${option}'`).join(' ')} "$@"\n`;
  const name = `ssh-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
  const path = join(folder, name);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(path, text, { mode: 0o700 });
  await chmod(path, 0o700);
  return path;
}
