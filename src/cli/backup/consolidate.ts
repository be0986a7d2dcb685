import type { Command } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { contextOf } from '../connection/context.ts';
import { waitForJob } from '../job/wait-for-job.ts';
import { type Column, print, printDone } from '../output.ts';
import { wholeNumber } from './pin.ts';

interface StepView {
  readonly disk_id: number;
  readonly operation: string;
  readonly layer: string;
  readonly vanishing: readonly string[];
  readonly bytes: number;
}

const stepColumns: Column<StepView>[] = [
  { title: 'DISK', value: (row) => String(row.disk_id) },
  { title: 'WOULD', value: (row) => row.operation },
  { title: 'LAYER', value: (row) => row.layer },
  { title: 'TOGETHER WITH', value: (row) => row.vanishing.join(' ') },
  { title: 'MOVES', value: (row) => formatBytes(row.bytes) },
];

interface ConsolidateOptions {
  readonly vm: string;
  readonly repository: string;
  readonly full?: boolean;
  readonly beside?: boolean;
  readonly rate?: number;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
}

interface ConsolidateResult {
  readonly steps: number;
  readonly postponed: readonly string[];
}

/** Chains that get shorter. */
export function consolidateCommand(backup: Command): void {
  backup
    .command('consolidate')
    .description('merge away layers of deleted backups and shorten the chains of a machine')
    .requiredOption('--vm <name>', 'the machine')
    .option('--repository <name>', 'where', 'local')
    .option('--full', 'give the newest backup a full of its own, made from its chain, not from the source')
    .option('--beside', 'where files are in use, write a new full beside them instead of waiting')
    .option('--rate <mib>', 'at most so many MiB per second', wholeNumber)
    .option('--dry-run', 'only say what would be rewritten')
    .option('--wait', 'follow it to its end')
    .action(async (options: ConsolidateOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const started = await client.call<{ job_id: string; steps?: StepView[] }>(
        'POST',
        '/backup/consolidate',
        {
          vm_name: options.vm,
          repository: options.repository,
          full: options.full ?? false,
          beside: options.beside ?? false,
          dry_run: options.dryRun ?? false,
          ...(options.rate === undefined ? {} : { rate_mib_per_s: options.rate }),
        },
      );
      if (options.dryRun) {
        print(format, started, started.steps ?? [], stepColumns, (row) => row.layer);
        return;
      }
      if (!options.wait) {
        const sentence = `Watch it with: sendense-ctl job watch ${started.job_id}`;
        return printDone(format, started, started.job_id, sentence);
      }
      const job = await waitForJob(client, started.job_id);
      const result = job.result as ConsolidateResult | null;
      const later = (result?.postponed ?? []).map((text) => `\nNot now: ${text}`).join('');
      printDone(
        format,
        job,
        job.job_id,
        `${result?.steps ?? 0} ${result?.steps === 1 ? 'layer was' : 'layers were'} rewritten.${later}`,
      );
    });
}
