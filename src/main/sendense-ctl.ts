import { readFileSync } from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { SendenseError, toSendenseError } from '../base/sendense-error.ts';
import { backupCommands } from '../cli/backup.ts';
import { doctorCommand } from '../cli/doctor.ts';
import { jobCommands } from '../cli/job.ts';
import { mountCommands } from '../cli/mount.ts';
import { repositoryCommands } from '../cli/repository.ts';
import { restoreCommands } from '../cli/restore.ts';
import { systemCommands } from '../cli/system.ts';
import { vmCommands } from '../cli/vm.ts';

const USAGE_EXIT = 2;
const version = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;

const program = new Command('sendense-ctl')
  .description('Back up machines into plain qcow2 chains, and get them back.')
  .version(version)
  .option('--home <dir>', 'home of the daemon (or SENDENSE_HOME)')
  .addOption(
    new Option('-o, --format <format>', 'how answers are printed')
      .choices(['table', 'json', 'yaml', 'name'])
      .default('table'),
  )
  .configureHelp({ showGlobalOptions: true })
  .exitOverride();

vmCommands(program);
mountCommands(program, backupCommands(program));
restoreCommands(program);
jobCommands(program);
repositoryCommands(program);
systemCommands(program);
doctorCommand(program);

/** Options of the whole program may stand anywhere, also behind the verb. */
function inherit(command: Command): void {
  for (const child of command.commands) {
    child.exitOverride().copyInheritedSettings(command);
    inherit(child);
  }
}
inherit(program);

// `sendense-ctl … | head` closes the pipe early; that is no failure
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : USAGE_EXIT);
  const failure = toSendenseError(error);
  process.stderr.write(`error: ${failure.message}\n       ${failure.hint}\n       (${failure.code})\n`);
  if (!(error instanceof SendenseError) && process.env['SENDENSE_DEBUG']) console.error(error);
  process.exit(failure.entry.exit);
}
