import { readFileSync } from 'node:fs';
import { CommanderError } from 'commander';
import { packageFile } from '../base/own-files.ts';
import { SendenseError, toSendenseError } from '../base/sendense-error.ts';
import { createProgram } from '../cli/program.ts';

const USAGE_EXIT = 2;
const version = (JSON.parse(readFileSync(packageFile('package.json'), 'utf8')) as { version: string })
  .version;

// `sendense-ctl … | head` closes the pipe early; that is no failure
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await createProgram(version).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exit(error.exitCode === 0 ? 0 : USAGE_EXIT);
  const failure = toSendenseError(error);
  process.stderr.write(`error: ${failure.message}\n       ${failure.hint}\n       (${failure.code})\n`);
  if (!(error instanceof SendenseError) && process.env['SENDENSE_DEBUG']) console.error(error);
  process.exit(failure.entry.exit);
}
