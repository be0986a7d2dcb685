import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { HomePaths } from '../../base/home/home-paths.ts';
import type { Logger } from '../../base/logger.ts';
import { type RunningDaemon, startDaemon } from '../../base/process/start-daemon.ts';
import { messageOf } from '../../base/sendense-error.ts';
import { MountdClient } from '../../mountd/client.ts';
import type { PrivilegedWork } from '../../mountd/privileged-work.ts';
import { unprivilegedWork } from '../../mountd/unprivileged.ts';

/** A Node that starts on a slow machine under load. */
const READY_TIMEOUT_MS = 60_000;
const RESTART_DELAY_MS = 200;

/** Who does the work that needs privileges. */
export interface Mountd {
  readonly work: PrivilegedWork;
  readonly hasPrivileges: boolean;
  /** Of the one that we started; null: somebody else's, or none. */
  pid(): number | null;
  stop(): Promise<void>;
}

interface MountdWiring {
  readonly logger: Logger;
  readonly paths: HomePaths;
  /** Path of our own program. */
  readonly mountdFile: string;
}

/** A daemon with all privileges starts its own mountd; another one asks the one that runs, or does without. */
export async function wireMountd(wiring: MountdWiring): Promise<Mountd> {
  const { paths, logger } = wiring;
  const work = new MountdClient(paths.mountdSocketFile);
  const foreign = { pid: () => null, stop: async () => {} };
  if (await answers(work)) return { work, hasPrivileges: true, ...foreign };
  if (process.getuid?.() === 0) return await startOwn(wiring, work);
  logger.warn(
    { socket: paths.mountdSocketFile },
    'no sendense-mountd answers: mounting is left to programs of user space',
  );
  return { work: unprivilegedWork(paths.mountFolder), hasPrivileges: false, ...foreign };
}

async function answers(work: PrivilegedWork): Promise<boolean> {
  return await work.unexpose('/nowhere', false).then(
    () => true,
    () => false,
  );
}

async function startOwn({ logger, paths, mountdFile }: MountdWiring, work: PrivilegedWork): Promise<Mountd> {
  let isStopping = false;
  let daemon: RunningDaemon | null = null;
  const launch = async () => {
    daemon = await startDaemon(
      process.execPath,
      ['--max-old-space-size=64', mountdFile, '--home', paths.home, '--expose-anywhere'],
      {
        logFile: join(paths.runFolder, 'mountd.log'),
        readyTimeoutMs: READY_TIMEOUT_MS,
        readyWhen: async () => existsSync(paths.mountdSocketFile) && (await answers(work)),
      },
    );
    void daemon.exited.then(again);
  };
  const again = async (outcome: string) => {
    if (isStopping) return;
    logger.error({ outcome }, 'sendense-mountd ended; starting it again');
    while (!isStopping) {
      try {
        return await launch();
      } catch (error) {
        logger.error({ error: messageOf(error) }, 'sendense-mountd does not start; trying again');
        await sleep(RESTART_DELAY_MS);
      }
    }
  };
  await launch();
  return {
    work,
    hasPrivileges: true,
    pid: () => daemon?.pid ?? null,
    stop: async () => {
      isStopping = true;
      await daemon?.stop();
    },
  };
}
