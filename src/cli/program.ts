import { Command, Option } from 'commander';
import { agentCommands } from './agent.ts';
import { backupCommands } from './backup/backup.ts';
import { pruneCommands } from './backup/prune.ts';
import { verifyCommands } from './backup/verify.ts';
import { completionCommand } from './completion/completion.ts';
import { helpCommand } from './help.ts';
import { jobCommands } from './job/job.ts';
import { mirrorCommands } from './mirror/mirror.ts';
import { policyCommands } from './policy/policy.ts';
import { scheduleCommands } from './policy/schedule.ts';
import { repositoryCommands } from './repository/repository.ts';
import { bootTestCommands } from './restore/boot-test.ts';
import { liveCommands } from './restore/live.ts';
import { mountCommands } from './restore/mount.ts';
import { restoreCommands } from './restore/restore.ts';
import { doctorCommand } from './service/doctor.ts';
import { notifyCommands } from './service/notify.ts';
import { statusCommand } from './service/status.ts';
import { supportCommand } from './service/support.ts';
import { systemCommands } from './service/system.ts';
import { tokenCommands } from './service/token.ts';
import { vmCommands } from './vm/vm.ts';

/** All commands. Usage errors are thrown as CommanderError. */
export function createProgram(version: string): Command {
  const program = new Command('sendense-ctl')
    .description('Back up machines into plain qcow2 chains, and get them back.')
    .version(version)
    .option('--home <dir>', 'home of the daemon (or SENDENSE_HOME)')
    .option('--url <url>', 'an appliance elsewhere, as https://HOST:8443 (or SENDENSE_URL)')
    .option('--token-file <file>', 'with --url: the file with the token (or SENDENSE_TOKEN_FILE)')
    .option('--fingerprint <sha256>', 'with --url: of its certificate (or SENDENSE_FINGERPRINT)')
    .option('--ca <file>', 'with --url: who vouches for its certificate (or SENDENSE_CA)')
    .addOption(
      new Option('-o, --format <format>', 'how answers are printed')
        .choices(['table', 'json', 'yaml', 'name'])
        .default('table'),
    )
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();
  vmCommands(program);
  agentCommands(program);
  mountCommands(program, backupCommands(program));
  const restore = restoreCommands(program);
  liveCommands(restore);
  bootTestCommands(restore);
  verifyCommands(program);
  jobCommands(program);
  pruneCommands(program);
  repositoryCommands(program);
  mirrorCommands(program);
  policyCommands(program);
  scheduleCommands(program);
  tokenCommands(program);
  notifyCommands(program);
  systemCommands(program);
  statusCommand(program);
  doctorCommand(program);
  supportCommand(program);
  completionCommand(program);
  helpCommand(program);
  inherit(program);
  return program;
}

/** Options of the whole program may stand anywhere, also behind the verb; who typed something wrong is told where help is. */
function inherit(command: Command, path = command.name()): void {
  command.showHelpAfterError(`       See: ${path} --help`);
  for (const child of command.commands) {
    child.exitOverride().copyInheritedSettings(command);
    inherit(child, `${path} ${child.name()}`);
  }
}
