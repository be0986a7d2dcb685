import { type Command, Option } from 'commander';
import { formatBytes } from '../../base/units.ts';
import { backupTypes, diskNumber, jobStatuses, mibPerSecond } from '../choices.ts';
import { query } from '../connection/client.ts';
import { contextOf } from '../connection/context.ts';
import { waitForJob } from '../job/wait-for-job.ts';
import { type Column, print, printable, say } from '../output.ts';
import { runPolicy } from '../policy/run.ts';
import { consolidateCommand } from './consolidate.ts';
import { copyCommand } from './copy.ts';
import { deleteCommand } from './delete.ts';
import { pinCommands } from './pin.ts';

export interface BackupView {
  readonly backup_id: string;
  readonly vm_name: string;
  readonly backup_type: string;
  readonly status: string;
  readonly bytes_transferred: number;
  readonly damaged: boolean;
  readonly verified_at: string | null;
  readonly verified_ok: boolean | null;
  readonly boot_test: {
    readonly tested_at: string;
    readonly outcome: string;
    readonly reason: string;
  } | null;
  readonly created_at: string;
  readonly copied_from: string | null;
  readonly pins?: readonly {
    readonly pin_id: string;
    readonly reason: string;
    readonly until: string | null;
  }[];
  readonly disks: readonly {
    disk_id: number;
    backup_type: string;
    reason: string | null;
    unexpected: boolean;
    layer: string;
    file_bytes: number;
    size_bytes: number;
  }[];
}

/** What the backup really is; what was asked for as long as it is nothing yet. */
export function typeOf(backup: Pick<BackupView, 'backup_type' | 'disks'>): string {
  const [type = backup.backup_type, ...others] = new Set(backup.disks.map((disk) => disk.backup_type));
  return others.length === 0 ? type : 'mixed';
}

function sayReasons(backup: BackupView): void {
  for (const { disk_id, reason } of backup.disks)
    if (reason !== null) say(`Disk ${disk_id} is a full: ${reason}`);
}

/** When the restore point was last compared with its digests; of several disks the oldest date. */
export function verifiedOf(backup: Pick<BackupView, 'verified_at' | 'verified_ok'>): string {
  if (backup.verified_ok === false) return 'BAD';
  return backup.verified_at === null ? 'never' : backup.verified_at.slice(0, 10);
}

/** When the restore point was last booted to see whether it comes up. */
function bootedOf({ boot_test }: BackupView): string {
  if (boot_test === null) return 'never';
  return boot_test.outcome === 'passed' ? boot_test.tested_at.slice(0, 10) : 'FAILED';
}

const columns: Column<BackupView>[] = [
  { title: 'BACKUP', value: (backup) => backup.backup_id },
  { title: 'TYPE', value: typeOf },
  { title: 'STATUS', value: (backup) => (backup.damaged ? 'DAMAGED' : backup.status) },
  { title: 'CREATED', value: (backup) => backup.created_at.slice(0, 19).replace('T', ' ') },
  { title: 'TRANSFERRED', value: (backup) => formatBytes(backup.bytes_transferred) },
  { title: 'VERIFIED', value: verifiedOf },
  { title: 'BOOTED', value: bootedOf },
  {
    title: 'DISKS',
    value: (backup) =>
      backup.disks
        .map((disk) => `${disk.disk_id}:${disk.backup_type}${disk.unexpected ? '(!)' : ''}`)
        .join(' '),
  },
];
const name = (backup: BackupView) => backup.backup_id;

interface ListOptions {
  readonly vm?: string;
  readonly status?: string;
  readonly repository?: string;
  readonly limit: string;
}

export function backupCommands(program: Command): Command {
  const backup = program.command('backup').description('restore points of machines');
  backup
    .command('start')
    .description('back up a machine')
    .requiredOption('--vm <name>', 'the machine')
    .addOption(new Option('--type <type>', 'what to make').choices(backupTypes).default('incremental'))
    .option('--repository <name>', 'where to', 'local')
    .option('--rate <mib>', 'write at most so many MiB a second', mibPerSecond)
    .option('--wait', 'follow it to its end')
    .action(
      async (
        options: { vm: string; type: string; repository: string; rate?: number; wait?: boolean },
        command: Command,
      ) => {
        const { client, format } = contextOf(command);
        const started = await client.call<{ job_id: string; backup_id: string; status: string }>(
          'POST',
          '/backup/start',
          {
            vm_name: options.vm,
            backup_type: options.type,
            repository: options.repository,
            rate_mib_per_s: options.rate,
          },
        );
        if (options.wait) {
          await waitForJob(client, started.job_id);
          const done = await client.call<BackupView>('GET', `/backup/${started.backup_id}`);
          print(format, done, [done], columns, name);
          sayReasons({ ...done, disks: done.disks.filter((disk) => !disk.unexpected) });
          return;
        }
        say(`Watch it with: sendense-ctl job watch ${started.job_id}`);
        print(
          format,
          started,
          [started],
          [
            { title: 'JOB', value: (row) => row.job_id },
            { title: 'BACKUP', value: (row) => row.backup_id },
          ],
          (row) => row.backup_id,
        );
      },
    );
  backup
    .command('now')
    .description('back up all machines of a policy; exit code 3 with --wait when it is done in part')
    .requiredOption('--policy <name>', 'the policy')
    .option('--wait', 'wait for its end')
    .action(async (options: { policy: string; wait?: boolean }, command: Command) => {
      await runPolicy(contextOf(command), options.policy, { ...options, kind: 'backup' });
    });
  backup
    .command('list')
    .description('backups, newest first')
    .option('--vm <name>', 'only this machine')
    .addOption(new Option('--status <status>', 'only with this status').choices(jobStatuses))
    .option('--repository <name>', 'only there')
    .option('--limit <n>', 'how many', '100')
    .action(async (options: ListOptions, command: Command) => {
      const { client, format } = contextOf(command);
      const { vm, ...filter } = options;
      const answer = await client.call<{ backups: BackupView[]; next_cursor: string | null }>(
        'GET',
        `/backup/list${query({ vm_name: vm, status: filter.status, repository: filter.repository, limit: filter.limit })}`,
      );
      print(format, answer, answer.backups, columns, name);
      if (answer.next_cursor !== null) say('There are more; raise --limit.');
    });
  backup
    .command('show <id>')
    .description('one backup; an id, a unique beginning, latest or latest:VM')
    .action(async (id: string, _options, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<BackupView>('GET', `/backup/${encodeURIComponent(id)}`);
      print(format, answer, [answer], columns, name);
      sayReasons(answer);
      if (answer.copied_from) say(`It is a copy of ${answer.copied_from}.`);
      if (answer.boot_test !== null)
        say(
          `Booted on ${answer.boot_test.tested_at.slice(0, 16).replace('T', ' ')}: ${answer.boot_test.outcome}, ${printable(answer.boot_test.reason)}.`,
        );
      for (const { pin_id, reason, until } of answer.pins ?? [])
        say(`${pin_id} keeps it ${until === null ? 'for ever' : `until ${until}`}: ${reason}`);
    });
  backup
    .command('chain')
    .description('the chains of a machine, layer by layer')
    .requiredOption('--vm <name>', 'the machine')
    .option('--disk <n>', 'only this disk', diskNumber)
    .action(async (options: { vm: string; disk?: number }, command: Command) => {
      const { client, format } = contextOf(command);
      const answer = await client.call<{ chains: { disk_id: number; backups: BackupView[] }[] }>(
        'GET',
        `/backup/chain${query({ vm_name: options.vm, disk: options.disk })}`,
      );
      const rows = answer.chains.flatMap((chain) =>
        chain.backups.flatMap((member) => member.disks.map((disk) => ({ member, disk }))),
      );
      print(
        format,
        answer,
        rows,
        [
          { title: 'DISK', value: ({ disk }) => String(disk.disk_id) },
          {
            title: 'LAYER',
            value: ({ disk }) => (disk.backup_type === 'full' ? disk.layer : `└ ${disk.layer}`),
          },
          { title: 'SIZE', value: ({ disk }) => formatBytes(disk.file_bytes) },
          { title: 'BACKUP', value: ({ member }) => member.backup_id },
        ],
        ({ member }) => member.backup_id,
      );
    });
  copyCommand(backup);
  deleteCommand(backup);
  pinCommands(backup);
  consolidateCommand(backup);
  return backup;
}
