import { readFile } from 'node:fs/promises';
import { CommanderError } from 'commander';
import { packageFile } from '../base/own-files.ts';
import { toSendenseError } from '../base/sendense-error.ts';
import { agentCommand } from './agent-command.ts';

const { version } = JSON.parse(await readFile(packageFile('package.json'), 'utf8')) as {
  version: string;
};

try {
  await agentCommand(version).parseAsync(process.argv);
  process.exit(0);
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : 2);
  const failure = toSendenseError(error);
  process.stderr.write(`error: ${failure.message}\n       ${failure.hint}\n       (${failure.code})\n`);
  if (failure.code === 'INTERNAL') console.error(failure.cause ?? failure);
  process.exit(failure.entry.exit);
}
