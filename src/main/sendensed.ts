import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../base/config/load-config.ts';
import { lockHome } from '../base/home/home-lock.ts';
import { homePaths } from '../base/home/home-paths.ts';
import { createLogger } from '../base/logger.ts';
import { packageFile } from '../base/own-files.ts';
import { kill, markChildren, ownerIdOf } from '../base/process/owned-processes.ts';
import { ServiceManager } from '../base/process/service-manager.ts';
import { SendenseError, toSendenseError } from '../base/sendense-error.ts';
import { daemonOptions, isUsageError } from './daemon-options.ts';
import { reloadConfig } from './reload-config.ts';
import { startAppliance } from './start-appliance.ts';

const startedMs = performance.now();
const version = (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string })
  .version;

/** `SENDENSE_CRASH_AT=intent:layer-named:2` kills the daemon at the second such step; only tests set it. */
function crashAt(wanted: string | undefined): ((step: string) => void) | undefined {
  if (wanted === undefined) return undefined;
  const match = /^(\w+:[\w-]+)(?::(\d+))?$/.exec(wanted);
  let left = Number(match?.[2] ?? 1);
  return (step) => {
    if (step !== match?.[1]) return;
    left -= 1;
    if (left === 0) kill(process.pid, 'SIGKILL');
  };
}

function whoRuns(runFolder: string): string {
  const file = join(runFolder, 'sendensed.pid');
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : 'unknown';
}

async function main(): Promise<void> {
  const options = daemonOptions(process.argv, version);
  const paths = homePaths(options.home);
  const configInputs = { file: paths.configFile, environment: { ...process.env }, flags: options.set };
  const loaded = await loadConfig(configInputs);
  const logger = createLogger(loaded.config.log.level);
  const manager = new ServiceManager(logger, process.env);
  const lock = (() => {
    try {
      return lockHome(paths.lockFile, paths.home);
    } catch (error) {
      if (!(error instanceof SendenseError)) throw error;
      throw new SendenseError('DAEMON_RUNNING', { pid: whoRuns(paths.runFolder), home: paths.home }, error);
    }
  })();
  const ownerId = ownerIdOf(paths.home);
  markChildren(ownerId);
  // layers and rows are for the daemon's own group at most
  process.umask(0o027);
  const onStep = crashAt(process.env['SENDENSE_CRASH_AT']);
  const programFile = (name: string) => fileURLToPath(packageFile(`dist/main/${name}.js`));
  const appliance = await startAppliance({
    paths,
    loaded,
    logger,
    version,
    ownerId,
    moverFile: programFile('sendense-mover'),
    mountdFile: programFile('sendense-mountd'),
    volumesFile: programFile('sendense-volumes'),
    mirrorFile: programFile('sendense-mirror'),
    vmFolder: fileURLToPath(packageFile('build/vm')),
    ...(onStep ? { onStep } : {}),
  });
  logger.info(
    { home: paths.home, socket: paths.socketFile, ms: Math.round(performance.now() - startedMs) },
    'ready',
  );

  let isStopping = false;
  const stop = async (signal: string) => {
    if (isStopping) return;
    isStopping = true;
    logger.info({ signal }, 'stopping');
    // not waited for: what is to be stopped does not wait for who hears of it
    void manager.tell('STOPPING=1');
    await appliance.stop();
    lock[Symbol.dispose]();
    process.exit(0);
  };
  let reload = Promise.resolve();
  process.on('SIGHUP', () => {
    reload = reload.then(async () => {
      if (isStopping) return;
      await manager.tell('RELOADING=1');
      const waiting = await reloadConfig(configInputs, loaded, logger);
      if (waiting !== null) appliance.settingsChanged();
      const status =
        waiting === null
          ? 'The settings are not valid; those of before are in use.'
          : waiting.length > 0
            ? `Waiting for a restart: ${waiting.join(', ')}`
            : 'Serving.';
      await manager.tell('READY=1', `STATUS=${status}`);
    });
  });
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  await manager.tell('READY=1', 'STATUS=Serving.');
  manager.startWatchdog();
}

try {
  await main();
} catch (error) {
  if (isUsageError(error)) process.exit(error.exitCode === 0 ? 0 : 2);
  const failure = toSendenseError(error);
  process.stderr.write(`error: ${failure.message}\n       ${failure.hint}\n       (${failure.code})\n`);
  if (failure.code === 'INTERNAL') console.error(failure.cause ?? failure);
  process.exit(failure.entry.exit);
}
