import { open, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { errnoOf, SendenseError } from '../../base/sendense-error.ts';
import { contextOf } from '../connection/context.ts';
import { printDone } from '../output.ts';

export function supportCommand(program: Command): void {
  program
    .command('support-bundle')
    .description('versions, settings, checks, events, jobs and log in one file; no secrets')
    .requiredOption('--output <file>', 'a new file, as support.tar.zst')
    .action(async (options: { output: string }, command: Command) => {
      const { client, format } = contextOf(command);
      const output = resolve(options.output);
      const answer = await client.open('GET', '/support-bundle');
      const handle = await open(output, 'wx', 0o600).catch((error: unknown) => {
        answer.destroy();
        throw errnoOf(error) === 'EEXIST'
          ? new SendenseError('OUTPUT_EXISTS', { path: output })
          : new SendenseError('OUTPUT_INVALID', { path: output, detail: String(errnoOf(error)) });
      });
      try {
        await pipeline(answer, handle.createWriteStream());
      } catch (error) {
        await rm(output, { force: true });
        throw error;
      }
      printDone(
        format,
        { output },
        output,
        `${output} holds no secrets, but names of machines, files and addresses: look into it before you pass it on.`,
      );
    });
}
