import { type Command, Option } from 'commander';
import { contextOf } from '../connection/context.ts';
import { type JobView, waitForJob } from '../job/wait-for-job.ts';
import { print, say } from '../output.ts';

export interface LibvirtRestoreOptions {
  readonly backupId: string;
  readonly output?: string;
  readonly toLibvirt?: string | true;
  readonly name?: string;
  readonly network?: 'none' | 'same';
  readonly keepIdentity?: boolean;
  readonly start?: boolean;
  readonly instant?: boolean;
}

/** Adds what `restore vm` knows of a libvirt. */
export const withLibvirtRestoreOptions = (command: Command): Command =>
  command
    .option('--to-libvirt [uri]', 'make a machine of a libvirt; without URI where it was backed up')
    .option('--name <name>', 'of the new machine; else the old name with -restored')
    .addOption(
      new Option('--network <how>', 'network cards of the new machine')
        .choices(['none', 'same'])
        .default('none'),
    )
    .option('--keep-identity', 'UUID and MAC addresses as they were; only when the old machine is gone')
    .option('--start', 'start it when its disks are there')
    .option('--instant', 'start it at once on the backup itself, and copy behind');

/** A machine goes to a folder only when that was said and nothing of a libvirt was. */
export const isForLibvirt = (options: LibvirtRestoreOptions): boolean =>
  options.toLibvirt !== undefined || options.output === undefined || options.instant === true;

export async function restoreMachine(options: LibvirtRestoreOptions, command: Command): Promise<void> {
  const { client, format } = contextOf(command);
  const job = await client.call<JobView>('POST', '/restore/libvirt', {
    backup_id: options.backupId,
    uri: typeof options.toLibvirt === 'string' ? options.toLibvirt : undefined,
    name: options.name,
    output: options.output,
    network: options.network,
    keep_identity: options.keepIdentity ?? false,
    start: options.start ?? false,
    instant: options.instant ?? false,
  });
  const done = await waitForJob(client, job.job_id);
  const domain = String(done.result?.['domain'] ?? '');
  say(
    done.result?.['started'] === true ? `${domain} runs.` : `${domain} is there; start it with virsh start.`,
  );
  print(format, done, [domain], [{ title: 'RESTORED', value: (row) => row }], (row) => row);
}
