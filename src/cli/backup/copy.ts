import { type Command, InvalidArgumentError } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { contextOf } from '../connection/context.ts';
import { waitForJob } from '../job/wait-for-job.ts';
import { printDone } from '../output.ts';

interface CopyOptions {
  readonly vm?: string;
  readonly all?: boolean;
  readonly missing?: boolean;
  readonly to: string;
  readonly wait?: boolean;
}

interface CopyResult {
  readonly copied: readonly string[];
  readonly skipped: readonly string[];
  readonly bytes: number;
}

/** Restore points that lie in two places. */
export function copyCommand(backup: Command): void {
  backup
    .command('copy [id]')
    .description('copy backups into another repository')
    .option('--vm <name>', 'those of this machine that are newer than the newest copy there')
    .option('--all', 'the same for all machines')
    .option('--missing', 'also older ones that are not there')
    .requiredOption('--to <repository>', 'where to')
    .option('--wait', 'follow it to its end')
    .action(async (id: string | undefined, options: CopyOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const named = [id !== undefined, options.vm !== undefined, options.all === true];
      if (named.filter(Boolean).length !== 1)
        throw new InvalidArgumentError('Name a backup, or a machine with --vm, or say --all.');
      const started = await client.call<{ job_id: string; backup_id: string | null }>(
        'POST',
        '/backup/copy',
        {
          backup_id: id,
          vm_name: options.vm,
          all: options.all,
          missing: options.missing,
          to: options.to,
        },
      );
      if (!options.wait)
        return printDone(
          format,
          started,
          started.job_id,
          `Watch it with: sendense-ctl job watch ${started.job_id}`,
        );
      const job = await waitForJob(client, started.job_id);
      const { copied, skipped, bytes } = job.result as unknown as CopyResult;
      const count = copied.length === 1 ? 'One backup was' : `${copied.length} backups were`;
      const there = skipped.length === 0 ? '' : ` ${skipped.length} were there already.`;
      printDone(format, job, job.job_id, `${count} copied to ${options.to} (${formatBytes(bytes)}).${there}`);
    });
}
