import type { Command } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { mibPerSecond } from '../choices.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { print, say } from '../output.ts';

interface VerifyOptions {
  readonly rate?: number;
  readonly clear?: boolean;
  readonly wait?: boolean;
}

interface Place {
  readonly backup_id: string | null;
  readonly disk_id: number | null;
  readonly layer: string | null;
  readonly offset: number | null;
  readonly code: string;
  readonly detail: string;
}

interface VerifyResult {
  readonly checked?: number;
  readonly rows?: number;
  readonly bytes?: number;
  readonly places_total?: number;
  readonly places?: readonly Place[];
}

/** So many bad places are told on a terminal; `job show -o json` has more. */
const MAX_SHOWN = 20;

export function verifyCommands(program: Command): void {
  const verify = program.command('verify').description('compare restore points with their digests');
  subject(verify, 'backup <id>', 'one restore point, as it would be restored', (backup_id) => ({
    backup_id,
  }));
  subject(verify, 'vm <name>', 'all restore points of a machine', (vm_name) => ({ vm_name }));
  subject(verify, 'repository <name>', 'everything in a repository', (repository) => ({ repository }));
}

function subject(
  verify: Command,
  usage: string,
  description: string,
  bodyOf: (name: string) => Record<string, string>,
): void {
  verify
    .command(usage)
    .description(description)
    .option('--rate <mib>', 'read at most so many MiB a second', mibPerSecond)
    .option('--clear', 'take marks of earlier checks away where all reads well now')
    .option('--wait', 'follow it to its end')
    .action(async (name: string, options: VerifyOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const body = { ...bodyOf(name), rate_mib_per_s: options.rate, clear: options.clear ?? false };
      const job = await client.call<JobView>('POST', '/verify', body);
      if (!options.wait) {
        say(`Watch it with: sendense-ctl job watch ${job.job_id}`);
        print(format, job, [job], [{ title: 'JOB', value: (row) => row.job_id }], (row) => row.job_id);
        return;
      }
      const show = () => client.call<JobView>('GET', `/jobs/${job.job_id}`);
      try {
        await waitForJob(client, job.job_id);
      } catch (error) {
        sayPlaces((await show()).result ?? {});
        throw error;
      }
      const done = await show();
      const result: VerifyResult = done.result ?? {};
      print(
        format,
        done,
        [result],
        [
          { title: 'VERIFIED', value: (row) => `${row.checked ?? 0} disks` },
          { title: 'ROWS', value: (row) => String(row.rows ?? 0) },
          { title: 'READ', value: (row) => formatBytes(row.bytes ?? 0) },
        ],
        () => done.job_id,
      );
    });
}

function sayPlaces({ places = [], places_total = 0 }: VerifyResult): void {
  for (const { backup_id, disk_id, layer, offset, code, detail } of places.slice(0, MAX_SHOWN)) {
    const where = [
      backup_id,
      disk_id === null ? null : `disk ${disk_id}`,
      layer,
      offset === null ? null : `byte ${offset}`,
    ];
    say(`${code}: ${where.filter((part) => part !== null).join(', ')}: ${detail}`);
  }
  const rest = places_total - Math.min(places.length, MAX_SHOWN);
  if (rest > 0) say(`and ${rest} more`);
}
