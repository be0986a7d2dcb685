import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { diskFormats, diskNumber } from '../choices.ts';
import { contextOf } from '../context.ts';
import { print } from '../output.ts';
import { type JobView, waitForJob } from '../wait-for-job.ts';

export function restoreCommands(program: Command): void {
  program
    .command('restore')
    .description('bring whole disks back')
    .command('disk')
    .description('write one disk of a restore point to a file')
    .requiredOption('--backup-id <id>', 'the restore point')
    .requiredOption('--output <file>', 'the file to make')
    .option('--disk <n>', 'which disk', diskNumber, 0)
    .addOption(new Option('--as <format>', 'kind of file to make').choices(diskFormats).default('raw'))
    .option('--force', 'overwrite an existing file')
    .action(
      async (
        options: { backupId: string; output: string; disk: number; as: string; force?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const output = resolve(options.output);
        const job = await client.call<JobView>('POST', '/restore/disk', {
          backup_id: options.backupId,
          disk: options.disk,
          output,
          format: options.as,
          overwrite: options.force ?? false,
        });
        const done = await waitForJob(client, job.job_id);
        print(
          format,
          { ...done, output },
          [output],
          [{ title: 'RESTORED', value: (row) => row }],
          (row) => row,
        );
      },
    );
}
