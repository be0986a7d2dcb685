import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { diskFormats, diskNumber } from '../choices.ts';
import type { Client } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { print, printable, say } from '../output.ts';
import {
  isForLibvirt,
  type LibvirtRestoreOptions,
  restoreMachine,
  withLibvirtRestoreOptions,
} from './restore-libvirt.ts';

interface FileOptions {
  readonly backupId: string;
  readonly output: string;
  readonly as: string;
  readonly force?: boolean;
  readonly resume?: boolean;
  readonly fresh?: boolean;
  readonly keepPartial?: boolean;
}
interface DiskOptions extends FileOptions {
  readonly disk: number;
  readonly differential?: boolean;
  readonly yes?: boolean;
  readonly confirmDevice?: string;
}
interface Plan {
  readonly kind: string;
  readonly path: string;
  readonly disk_bytes: number;
  readonly target_bytes: number | null;
  readonly model: string | null;
  readonly contents: readonly string[];
  readonly interrupted: { backup_id: string; done_bytes: number } | null;
}

const isUri = (output: string) => /^nbds?(\+[a-z]+)?:/i.test(output);
const resumeRule = (options: FileOptions) => (options.resume ? 'required' : options.fresh ? 'never' : 'auto');

export function restoreCommands(program: Command): Command {
  const restore = program.command('restore').description('bring whole disks back, or serve them');
  withFileOptions(
    restore.command('disk').description('write one disk of a restore point to a file, device or NBD URI'),
  )
    .requiredOption('--output <file>', 'a file to make, a block device, or nbd://… / nbd+unix://…')
    .option('--disk <n>', 'which disk', diskNumber, 0)
    .option('--differential', 'write only what differs from the existing target')
    .option('--yes', 'overwrite the device or export')
    .option('--confirm-device <name>', 'the device or export once more, exactly as in --output')
    .action(async (options: DiskOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const output = isUri(options.output) ? options.output : resolve(options.output);
      const wanted = {
        backup_id: options.backupId,
        disk: options.disk,
        output,
        overwrite: options.force ?? false,
        differential: options.differential ?? false,
      };
      await showPlan(client, wanted);
      const job = await client.call<JobView>('POST', '/restore/disk', {
        ...wanted,
        format: options.as,
        resume: resumeRule(options),
        keep_partial: options.keepPartial ?? false,
        // both are needed: --yes alone is typed too easily
        confirm_device: options.yes ? options.confirmDevice : undefined,
      });
      const done = await waitForJob(client, job.job_id);
      tellOutcome(done);
      print(
        format,
        { ...done, output },
        [output],
        [{ title: 'RESTORED', value: (row) => row }],
        (row) => row,
      );
    });
  withLibvirtRestoreOptions(withFileOptions(restore.command('vm')))
    .description('write all disks of a restore point into a folder, or make a machine of a libvirt')
    .option('--output <dir>', 'the folder; it gets disk-0.raw, disk-1.raw … or the images of the machine')
    .action(async (options: FileOptions & LibvirtRestoreOptions, command: Command) => {
      if (isForLibvirt(options)) return await restoreMachine(options, command);
      const { client, format } = contextOf(command);
      const output = resolve(options.output);
      const job = await client.call<JobView>('POST', '/restore/vm', {
        backup_id: options.backupId,
        output,
        format: options.as,
        overwrite: options.force ?? false,
        resume: resumeRule(options),
        keep_partial: options.keepPartial ?? false,
      });
      const done = await waitForJob(client, job.job_id);
      const files = (done.result?.['files'] ?? []) as string[];
      print(format, { ...done, output }, files, [{ title: 'RESTORED', value: (row) => row }], (row) => row);
    });
  return restore;
}

function withFileOptions(command: Command): Command {
  return command
    .requiredOption('--backup-id <id>', 'the restore point')
    .addOption(new Option('--as <format>', 'kind of file to make').choices(diskFormats).default('raw'))
    .option('--force', 'overwrite existing files')
    .option('--resume', 'only go on with an interrupted restore')
    .addOption(new Option('--fresh', 'begin anew, whatever an interrupted restore left').conflicts('resume'))
    .option('--keep-partial', 'when it is cancelled, keep what is written to go on later');
}

/** What is about to be overwritten is shown before anything else, also when it is then refused. */
async function showPlan(client: Client, wanted: Readonly<Record<string, unknown>>): Promise<void> {
  const plan = await client.call<Plan>('POST', '/restore/disk/plan', wanted);
  if (plan.kind === 'file') return;
  const size = plan.target_bytes === null ? '' : ` of ${formatBytes(plan.target_bytes)}`;
  say(`${plan.kind} ${plan.path}${size}${plan.model === null ? '' : `, ${printable(plan.model)}`}`);
  for (const line of plan.contents) say(`  holds ${printable(line)}`);
  say(`  its first ${formatBytes(plan.disk_bytes)} will be overwritten`);
  if (plan.interrupted !== null)
    say(`  an interrupted restore of ${plan.interrupted.backup_id} left it incomplete`);
}

function tellOutcome(job: JobView): void {
  const number = (key: string) =>
    typeof job.result?.[key] === 'number' ? (job.result[key] as number) : null;
  const [resumed, compared, changed] = ['resumed_at_bytes', 'compared_bytes', 'changed_bytes'].map(number);
  if (typeof resumed === 'number') say(`It went on at ${formatBytes(resumed)}.`);
  if (typeof compared === 'number')
    say(`${formatBytes(compared)} were compared, ${formatBytes(changed ?? 0)} of them had to be written.`);
}
