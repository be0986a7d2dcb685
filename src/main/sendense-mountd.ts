/** The only privileged process: loop devices, `/dev/nbd` and kernel mounts, for one user and below fixed folders. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { homePaths } from '../base/home/home-paths.ts';
import { createLogger } from '../base/logger.ts';
import { toSendenseError } from '../base/sendense-error.ts';
import { holdBase } from '../mountd/privileged/base-folder.ts';
import { localWork } from '../mountd/privileged/local-work.ts';
import { serveWork } from '../mountd/serve.ts';

/** The first descriptor that is handed over, sd_listen_fds(3). */
const FIRST_HANDED_OVER = 3;

/** @returns null when no socket was handed to this very process. Takes the variables away: they are for nobody else */
function activatedSocket(environment: Record<string, string | undefined>): number | null {
  const isOurs = environment['LISTEN_PID'] === String(process.pid) && environment['LISTEN_FDS'] === '1';
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  return isOurs ? FIRST_HANDED_OVER : null;
}

async function main(): Promise<void> {
  const options = new Command('sendense-mountd')
    .description('Mounts restore points for sendensed. Only the owner of the run folder may ask for it.')
    .option('--home <dir>', 'the home of the daemon (or SENDENSE_HOME)')
    .option(
      '--expose <dir>',
      'mounts may also be shown in this folder; repeatable',
      (value: string, all: string[]) => [...all, value],
      [] as string[],
    )
    .option(
      '--expose-anywhere',
      'mounts may be shown in any empty folder: only for a daemon that is root itself',
    )
    .exitOverride()
    .parse()
    .opts<{ home?: string; expose: string[]; exposeAnywhere?: boolean }>();
  const paths = homePaths(options.home ?? process.env['SENDENSE_HOME'] ?? null);
  const { uid, gid } = statSync(paths.runFolder);
  const logger = createLogger('info');
  // before anybody else makes it
  await (await holdBase(paths.mountFolder, gid))[Symbol.asyncDispose]();
  const stop = await serveWork({
    work: localWork({
      baseFolder: paths.mountFolder,
      imageFolder: join(paths.runFolder, 'mounts'),
      uid,
      gid,
      exposeFolders: options.exposeAnywhere && uid === 0 ? null : options.expose,
    }),
    socketFile: paths.mountdSocketFile,
    activated: activatedSocket(process.env),
    uid,
    gid,
    logger,
  });
  logger.info({ socket: paths.mountdSocketFile, user: uid }, 'mountd is ready');
  const end = () => void stop().then(() => process.exit(0));
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
}

try {
  await main();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  const failure = toSendenseError(error);
  process.stderr.write(`error: ${failure.message}\n       ${failure.hint}\n       (${failure.code})\n`);
  process.exit(failure.entry.exit);
}
